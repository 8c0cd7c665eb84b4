// Command bareloop is the baseline with which `make bench` compares Opsy: server-side applies of
// PackerBuilders in a bare loop with the given concurrency. With --status it also writes the status of each
// object, by a patch like Opsy's, because a reconciled object requires both.
package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"sync"
	"time"
)

// The response to a status patch is reduced to the metadata, because Opsy reads only the version.
const metadataOnly = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

func main() {
	log.SetFlags(0)
	server := flag.String("server", "", "address of the API server")
	ca := flag.String("ca", "", "file with the certificate authority of the server")
	token := flag.String("token", "", "file with a bearer token")
	namespace := flag.String("namespace", "", "namespace to apply in")
	documents := flag.String("documents", "", "file with one JSON document per line")
	status := flag.String("status", "", "file with the status to write to each object")
	atOnce := flag.Int("concurrency", 8, "number of concurrent requests")
	flag.Parse()

	names, bodies := read(*documents)
	patch := statusPatch(*status)
	client, bearer := connect(*ca, *token, *atOnce)
	work := make(chan int)
	var loops sync.WaitGroup
	start := time.Now()
	for range *atOnce {
		loops.Add(1)
		go func() {
			defer loops.Done()
			for i := range work {
				url := fmt.Sprintf("%s/apis/ami.opsy.dev/v1alpha1/namespaces/%s/packerbuilders/%s", *server, *namespace, names[i])
				send(client, bearer, url+"?fieldManager=bareloop&force=true", "application/apply-patch+yaml", "", bodies[i])
				if patch != nil {
					send(client, bearer, url+"/status?fieldManager=bareloop", "application/json-patch+json", metadataOnly, patch)
				}
			}
		}()
	}
	for i := range names {
		work <- i
	}
	close(work)
	loops.Wait()
	fmt.Printf("%.3f\n", time.Since(start).Seconds())
}

func read(path string) (names []string, bodies [][]byte) {
	file, err := os.Open(path)
	check(err)
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var document struct{ Metadata struct{ Name string } }
		check(json.Unmarshal(lines.Bytes(), &document))
		names = append(names, document.Metadata.Name)
		bodies = append(bodies, bytes.Clone(lines.Bytes()))
	}
	check(lines.Err())
	return names, bodies
}

func statusPatch(path string) []byte {
	if path == "" {
		return nil
	}
	status, err := os.ReadFile(path)
	check(err)
	return fmt.Appendf(nil, `[{"op": "add", "path": "/status", "value": %s}]`, status)
}

func connect(ca, token string, atOnce int) (*http.Client, string) {
	pem, err := os.ReadFile(ca)
	check(err)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		log.Fatalf("%s contains no certificate", ca)
	}
	bearer, err := os.ReadFile(token)
	check(err)
	transport := &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: roots},
		MaxIdleConnsPerHost: atOnce,
	}
	return &http.Client{Transport: transport}, "Bearer " + string(bytes.TrimSpace(bearer))
}

func send(client *http.Client, bearer, url, kind, accept string, body []byte) {
	request, err := http.NewRequest(http.MethodPatch, url, bytes.NewReader(body))
	check(err)
	request.Header.Set("Authorization", bearer)
	request.Header.Set("Content-Type", kind)
	if accept != "" {
		request.Header.Set("Accept", accept)
	}
	answer, err := client.Do(request)
	check(err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	check(err)
	if answer.StatusCode/100 != 2 {
		log.Fatalf("%s: %s", answer.Status, text)
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
