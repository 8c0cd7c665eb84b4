package main

// Keys, certificates, tokens and kubeconfigs of one bed, created at every start.

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	userAdmin             = "admin"
	userControllerManager = "system:kube-controller-manager"
	userScheduler         = "system:kube-scheduler"
	userNode              = "system:node:" + nodeName
)

var groupOf = map[string]string{userAdmin: "system:masters", userNode: "system:nodes"}

type identity struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// A bed lives for a test run or a working day, but tests may move the clock by years.
const validity = 10 * 365 * 24 * time.Hour

func issue(template *x509.Certificate, by *identity) (*identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 64))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	template.NotBefore, template.NotAfter = time.Now().Add(-validity), time.Now().Add(validity)
	parent, signer := template, crypto.Signer(key)
	if by != nil {
		parent, signer = by.certificate, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	return &identity{certificate, key}, err
}

func (i *identity) write(dir, name string) error {
	key, err := x509.MarshalPKCS8PrivateKey(i.key)
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(dir, name+".crt"), "CERTIFICATE", i.certificate.Raw, 0o644); err != nil {
		return err
	}
	return writePEM(filepath.Join(dir, name+".key"), "PRIVATE KEY", key, 0o600)
}

func writePEM(path, kind string, der []byte, mode os.FileMode) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
}

// writePKI creates the certificates ca, apiserver and apiserver-kubelet-client, and the key for service
// account tokens, in dir.
func writePKI(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	ca, err := issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: "bed"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}, nil)
	if err != nil {
		return err
	}
	server, err := issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
			"kubernetes.default.svc.cluster.local"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(10, 0, 0, 1)},
	}, ca)
	if err != nil {
		return err
	}
	client, err := issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver-kubelet-client"},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, ca)
	if err != nil {
		return err
	}
	for name, i := range map[string]*identity{"ca": ca, "apiserver": server, "apiserver-kubelet-client": client} {
		if err := i.write(dir, name); err != nil {
			return err
		}
	}
	tokenKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	return writePEM(filepath.Join(dir, "sa.key"), "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(tokenKey), 0o600)
}

// writeTokens creates a random token and a kubeconfig `<dir>/<file>.kubeconfig` for every built-in user.
func writeTokens(dir, server string) (adminToken string, err error) {
	files := map[string]string{userAdmin: "admin", userControllerManager: "controller-manager",
		userScheduler: "scheduler", userNode: "kubelet"}
	var lines strings.Builder
	for user, file := range files {
		random := make([]byte, 16)
		if _, err := rand.Read(random); err != nil {
			return "", err
		}
		token := hex.EncodeToString(random)
		fmt.Fprintf(&lines, "%s,%s,%s,%s\n", token, user, file, groupOf[user])
		if err := writeKubeconfig(filepath.Join(dir, file+".kubeconfig"), dir, server, token); err != nil {
			return "", err
		}
		if user == userAdmin {
			adminToken = token
		}
	}
	return adminToken, os.WriteFile(filepath.Join(dir, "tokens.csv"), []byte(lines.String()), 0o600)
}

func writeKubeconfig(path, pki, server, token string) error {
	ca, err := os.ReadFile(filepath.Join(pki, "ca.crt"))
	if err != nil {
		return err
	}
	named := func(kind string, value any) []any { return []any{map[string]any{"name": "bed", kind: value}} }
	text, err := json.MarshalIndent(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "bed",
		"clusters": named("cluster", map[string]any{"server": server, "certificate-authority-data": ca}),
		"contexts": named("context", map[string]any{"cluster": "bed", "user": "bed"}),
		"users":    named("user", map[string]any{"token": token}),
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}
