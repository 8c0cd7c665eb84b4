package main

// The components of a bed: how each one is started, and when it is ready.

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	readyWithin = 90 * time.Second
	// Longer than the API server's own request timeout.
	requestWithin = 65 * time.Second
)

type bed struct {
	options
	self        string
	assets      string
	snapshotter string
	server      string
	etcd        string
	port        int
	token       string
	client      *http.Client
	died        chan<- error
	mutex       sync.Mutex
	components  []*component
}

func (b *bed) start() error {
	began := time.Now()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	b.self, b.assets = self, os.Getenv("KUBEBUILDER_ASSETS")
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	os.Unsetenv("KUBECONFIG")
	if b.Node {
		if err := enterNode(b.options); err != nil {
			b.Node, b.NodeMissing = false, err.Error()
		}
	}
	if err := b.prepare(); err != nil {
		return err
	}
	if err := b.startAll(); err != nil {
		return err
	}
	control, err := b.serveControl()
	if err != nil {
		return err
	}
	if err := b.writeAddress(control, time.Since(began)); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "ready after %.1f s: %s\n", time.Since(began).Seconds(), b.server)
	if !b.Node && b.NodeMissing != "" {
		fmt.Fprintf(os.Stderr, "no node: %s\n", b.NodeMissing)
	}
	return nil
}

// startAll starts everything, and imports the images while the control plane and the kubelet start.
func (b *bed) startAll() error {
	var group errgroup.Group
	var failed error
	controlled := make(chan struct{})
	group.Go(func() error {
		defer close(controlled)
		failed = b.startControlPlane()
		return failed
	})
	if b.Node {
		group.Go(func() error {
			if err := b.startContainerd(); err != nil {
				return err
			}
			group.Go(func() error { return b.importImages(b.Images) })
			if b.Opsy != "" {
				group.Go(func() error { return b.importOpsy(b.Opsy, b.Runner) })
			}
			<-controlled
			if failed != nil {
				return nil
			}
			return b.startKubelet()
		})
	}
	return group.Wait()
}

func (b *bed) prepare() (err error) {
	if b.port, err = freePort(); err != nil {
		return err
	}
	b.server = fmt.Sprintf("https://127.0.0.1:%d", b.port)
	if err = writePKI(b.path("pki")); err != nil {
		return err
	}
	if b.token, err = writeTokens(b.path("pki"), b.server); err != nil {
		return err
	}
	ca, err := os.ReadFile(b.path("pki", "ca.crt"))
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	b.client = &http.Client{
		Timeout:   requestWithin,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true},
	}
	return os.Symlink(b.program("kubectl"), b.path("kubectl"))
}

func (b *bed) path(parts ...string) string {
	return filepath.Join(append([]string{b.Dir}, parts...)...)
}

// program returns the path of a program: one of KUBEBUILDER_ASSETS, else this program, which contains it.
func (b *bed) program(name string) string {
	if b.assets != "" {
		if path := filepath.Join(b.assets, name); executable(path) {
			return path
		}
	}
	return b.self
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

func (b *bed) component(name string, ready func() error, args ...string) *component {
	program := b.program(name)
	if program == b.self {
		args = append([]string{name}, args...)
	}
	return b.add(name, program, ready, args...)
}

func (b *bed) add(name, program string, ready func() error, args ...string) *component {
	c := &component{name: name, program: program, args: args, ready: ready,
		log: b.path("logs", name+".log"), died: b.died, stopped: true}
	b.mutex.Lock()
	b.components = append(b.components, c)
	b.mutex.Unlock()
	return c
}

func (b *bed) startControlPlane() error {
	clients, err := freePort()
	if err != nil {
		return err
	}
	peers, err := freePort()
	if err != nil {
		return err
	}
	b.etcd = fmt.Sprintf("http://127.0.0.1:%d", clients)
	etcd := b.component("etcd", b.etcdReady,
		"--data-dir="+b.path("etcd"), "--log-level=warn", "--unsafe-no-fsync",
		"--listen-client-urls="+b.etcd, "--advertise-client-urls="+b.etcd,
		fmt.Sprintf("--listen-peer-urls=http://127.0.0.1:%d", peers))
	apiserver := b.component("kube-apiserver", b.apiserverReady, b.apiserverArgs()...)
	manager := b.component("kube-controller-manager", nil,
		"--kubeconfig="+b.path("pki", "controller-manager.kubeconfig"), "--leader-elect=false", "--secure-port=0",
		"--service-account-private-key-file="+b.path("pki", "sa.key"), "--root-ca-file="+b.path("pki", "ca.crt"),
		"--flex-volume-plugin-dir="+b.path("node", "plugins"), "--use-service-account-credentials", "--kube-api-qps=200", "--kube-api-burst=400",
		// A lost node is detected sooner than in production, but a busy machine does not cause false alarms.
		"--node-monitor-period=1s", "--node-monitor-grace-period=16s")
	scheduler := b.component("kube-scheduler", nil,
		"--kubeconfig="+b.path("pki", "scheduler.kubeconfig"), "--leader-elect=false", "--secure-port=0")
	if err := errors.Join(etcd.startReady(readyWithin), apiserver.startReady(readyWithin)); err != nil {
		return fmt.Errorf("%w\n%s", err, tail(apiserver.log))
	}
	if err := errors.Join(manager.start(), scheduler.start()); err != nil {
		return err
	}
	// The controller manager creates this service account, without which no pod is admitted.
	return eventually("kube-controller-manager", readyWithin, func() error {
		return b.get("/api/v1/namespaces/default/serviceaccounts/default", nil)
	})
}

func (b *bed) apiserverArgs() []string {
	return []string{
		"--etcd-servers=" + b.etcd, "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(b.port), "--cert-dir=" + b.path("apiserver"),
		"--tls-cert-file=" + b.path("pki", "apiserver.crt"),
		"--tls-private-key-file=" + b.path("pki", "apiserver.key"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + b.path("pki", "sa.key"),
		"--service-account-signing-key-file=" + b.path("pki", "sa.key"),
		"--token-auth-file=" + b.path("pki", "tokens.csv"),
		"--authorization-mode=Node,RBAC", "--service-cluster-ip-range=10.0.0.0/24",
		// The endpoint would be a loopback address, which the API server rejects on every attempt.
		"--endpoint-reconciler-type=none",
		"--allow-privileged=true",
		"--kubelet-preferred-address-types=Hostname",
		"--kubelet-client-certificate=" + b.path("pki", "apiserver-kubelet-client.crt"),
		"--kubelet-client-key=" + b.path("pki", "apiserver-kubelet-client.key"),
		// Pods of a lost node are evicted after this many seconds instead of 300.
		"--default-not-ready-toleration-seconds=10", "--default-unreachable-toleration-seconds=10",
	}
}

func (b *bed) etcdReady() error {
	response, err := http.Get(b.etcd + "/health")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}

func (b *bed) apiserverReady() error { return b.get("/readyz", nil) }

// get sends a GET request to the API server as administrator.
func (b *bed) get(path string, into any) error {
	request, err := http.NewRequest(http.MethodGet, b.server+path, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+b.token)
	response, err := b.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", path, response.Status, body)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(body, into)
}

func (b *bed) writeAddress(control string, took time.Duration) error {
	address := map[string]any{
		"kubeconfig": b.path("pki", "admin.kubeconfig"), "server": b.server, "ca": b.path("pki", "ca.crt"),
		"host": "127.0.0.1", "port": b.port, "token": b.token, "kubectl": b.path("kubectl"),
		"control": control, "logs": b.path("logs"), "ready_seconds": took.Seconds(),
		"node": b.Node, "node_missing": b.NodeMissing,
	}
	if b.Node {
		address["node_name"], address["ctr"] = nodeName, b.ctr()
		images, err := b.images()
		if err != nil {
			return err
		}
		address["images"] = images
		address["archive"], address["registries"] = b.Images, b.registries()
	}
	text, err := json.Marshal(address)
	if err != nil || b.AddressFile == "" {
		return err
	}
	if err := os.WriteFile(b.AddressFile+".new", append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(b.AddressFile+".new", b.AddressFile)
}
