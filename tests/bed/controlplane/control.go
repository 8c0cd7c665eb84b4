package main

// The control interface on loopback, for tests that stop, pause or restart components.

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	etcdclient "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/grpclog"
)

func (b *bed) serveControl() (string, error) {
	port, err := freePort()
	if err != nil {
		return "", err
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return "", err
	}
	// The client logs every connection that it closes.
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /_bed", answer(b.states))
	mux.HandleFunc("POST /_bed/etcd/compact", answer(b.compact))
	mux.HandleFunc("POST /_bed/image", answer(b.replaceOpsy))
	mux.HandleFunc("POST /_bed/{component}/{action}", answer(b.act))
	go http.Serve(listener, mux)
	return "http://" + address, nil
}

func answer(handle func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, request *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		value, err := handle(request)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			value = map[string]string{"error": err.Error()}
		}
		json.NewEncoder(w).Encode(value)
	}
}

func (b *bed) states(*http.Request) (any, error) {
	states := map[string]any{}
	for _, c := range b.components {
		states[c.name] = c.state()
	}
	return states, nil
}

func (b *bed) act(request *http.Request) (any, error) {
	c := b.find(request.PathValue("component"))
	if c == nil {
		return nil, fmt.Errorf("unknown component %q", request.PathValue("component"))
	}
	var err error
	switch action := request.PathValue("action"); action {
	case "stop":
		c.stop()
	case "start":
		err = c.startReady(readyWithin)
	case "restart":
		c.stop()
		err = c.startReady(readyWithin)
	case "pause":
		err = c.pause(true)
	case "resume":
		err = c.pause(false)
	default:
		err = fmt.Errorf("unknown action %q: must be one of stop, start, restart, pause, resume", action)
	}
	return c.state(), err
}

// find returns a component by name, with or without the prefix "kube-".
func (b *bed) find(name string) *component {
	for _, c := range b.components {
		if c.name == name || c.name == "kube-"+name {
			return c
		}
	}
	return nil
}

const compactWithin = 10 * time.Second

// compact discards all of etcd's history. The watch cache of the API server still contains the events since its
// start: after it is restarted, a watch from an earlier version gets 410 Gone.
func (b *bed) compact(request *http.Request) (any, error) {
	client, err := etcdclient.New(etcdclient.Config{Endpoints: []string{b.etcd}, DialTimeout: compactWithin})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(request.Context(), compactWithin)
	defer cancel()
	// The write creates a revision that is newer than that of any watch.
	put, err := client.Put(ctx, "/bed/compacted", time.Now().String())
	if err != nil {
		return nil, err
	}
	_, err = client.Compact(ctx, put.Header.Revision, etcdclient.WithCompactPhysical())
	return map[string]int64{"revision": put.Header.Revision}, err
}

// replaceOpsy replaces localhost/opsy:bed; pods created afterwards run the new programs.
func (b *bed) replaceOpsy(request *http.Request) (any, error) {
	var programs struct{ Opsy, Runner string }
	if err := json.NewDecoder(request.Body).Decode(&programs); err != nil {
		return nil, err
	}
	if !b.Node {
		return nil, fmt.Errorf("no node: %s", b.NodeMissing)
	}
	if err := b.importOpsy(programs.Opsy, programs.Runner); err != nil {
		return nil, err
	}
	return b.images()
}
