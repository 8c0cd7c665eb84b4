package main

// `up` runs everything in the foreground, on free ports, until it is stopped.
//
// It consists of two processes. The caller starts the outer one, which waits for signals and, if requested, for the end
// of its parent. The inner one owns all programs. With a node, it is process 1 of a PID namespace and has its own mount
// namespace: if either process dies, the kernel ends every program, container and mount. The remaining process removes
// what the kernel does not clean up: cgroups and files.

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

type options struct {
	Dir         string
	AddressFile string
	Node        bool
	NodeMissing string
	Images      string
	Opsy        string
	Runner      string
	Cgroup      string
}

const (
	parentLook = 200 * time.Millisecond
	// Longer than the inner process needs to kill everything and to delete files.
	endWithin = 60 * time.Second
)

func up(args []string) error {
	var o options
	flags := flag.NewFlagSet("up", flag.ContinueOnError)
	flags.StringVar(&o.Dir, "dir", "", "directory for data and logs (default: a temporary directory, removed at the end)")
	flags.StringVar(&o.AddressFile, "address-file", "", "write the addresses as JSON to this file when everything is ready")
	flags.BoolVar(&o.Node, "node", false, "also start a real node, if running as root with containerd installed")
	flags.StringVar(&o.NodeMissing, "node-missing", "", "reason why there cannot be a node")
	flags.StringVar(&o.Images, "images", "", "archive of the images for the node")
	flags.StringVar(&o.Opsy, "opsy", "", "program for the image localhost/opsy:bed")
	flags.StringVar(&o.Runner, "runner", "", "static opsy-runner for the same image")
	dieWithParent := flags.Bool("die-with-parent", false, "exit when the parent process exits")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	parent := os.Getppid()
	temporary := o.Dir == ""
	if err := prepareDir(&o); err != nil {
		return err
	}
	if temporary {
		defer os.RemoveAll(o.Dir)
	}
	o.Cgroup = fmt.Sprintf("%s%d", cgroupPrefix, os.Getpid())
	sweepCgroups()
	if o.Node && o.NodeMissing == "" {
		o.NodeMissing = nodeMissing(o)
	}
	o.Node = o.Node && o.NodeMissing == ""

	inner, lifeline, err := startInner(o)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- inner.Wait() }()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	orphaned := make(chan struct{})
	if *dieWithParent {
		go func() {
			for os.Getppid() == parent {
				time.Sleep(parentLook)
			}
			close(orphaned)
		}()
	}
	select {
	case err = <-ended:
	case <-signals:
		err = endInner(inner, lifeline, ended)
	case <-orphaned:
		err = endInner(inner, lifeline, ended)
	}
	removeCgroups(o.Cgroup)
	return errors.Join(err, removeData(o))
}

func prepareDir(o *options) (err error) {
	if o.Dir == "" {
		if o.Dir, err = os.MkdirTemp("", "opsybed-"); err != nil {
			return err
		}
	}
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return err
	}
	if err = removeData(*o); err != nil {
		return err
	}
	return os.MkdirAll(filepath.Join(o.Dir, "logs"), 0o755)
}

// removeData deletes the data of one run and keeps the logs. The mounts below the directory no longer exist, because
// they were in the namespace of the inner process.
func removeData(o options) error {
	var failed error
	for _, name := range []string{"etcd", "apiserver", "pki", "containerd", "kubelet", "node", "kubectl"} {
		failed = errors.Join(failed, os.RemoveAll(filepath.Join(o.Dir, name)))
	}
	if o.AddressFile != "" {
		if err := os.Remove(o.AddressFile); err != nil && !errors.Is(err, os.ErrNotExist) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// startInner starts the inner process. It also returns the lifeline: the inner process exits when it is closed.
func startInner(o options) (*exec.Cmd, io.Closer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	held, lifeline, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer held.Close()
	for {
		text, err := json.Marshal(o)
		if err != nil {
			return nil, nil, err
		}
		inner := exec.Command(self, "up-inner", string(text))
		inner.Stdout, inner.Stderr = os.Stdout, os.Stderr
		inner.ExtraFiles = []*os.File{held}
		// Its own session, so that Ctrl-C in a terminal, or a signal to the caller's process group,
		// reaches only the outer process.
		inner.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if o.Node {
			inner.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID | syscall.CLONE_NEWNS
		}
		err = inner.Start()
		if err != nil && o.Node {
			o.Node, o.NodeMissing = false, fmt.Sprintf("cannot create PID and mount namespaces: %v", err)
			continue
		}
		return inner, lifeline, err
	}
}

func endInner(inner *exec.Cmd, lifeline io.Closer, ended <-chan error) error {
	lifeline.Close()
	select {
	case err := <-ended:
		return err
	case <-time.After(endWithin):
		inner.Process.Kill()
		<-ended
		return fmt.Errorf("the bed did not end within %s and was killed", endWithin)
	}
}

// upInner runs until the lifeline is closed or a component fails.
func upInner(text string) error {
	var o options
	if err := json.NewDecoder(bytes.NewBufferString(text)).Decode(&o); err != nil {
		return err
	}
	startReaping()
	died := make(chan error, 16)
	told := make(chan error, 1)
	go func() {
		io.Copy(io.Discard, os.NewFile(3, "lifeline"))
		told <- nil
	}()
	// The lifeline ends this process, not signals, which process 1 does not get without a handler anyway.
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	started := make(chan error, 1)
	b := &bed{options: o, died: died}
	go func() { started <- b.start() }()
	var failure error
	for waiting := true; waiting; {
		select {
		case failure = <-started:
			waiting = failure == nil
		case failure = <-died:
			waiting = false
		case <-told:
			waiting = false
		}
	}
	b.end()
	return failure
}

// end kills all processes, detaches all mounts and removes all data. The outer process, if it is alive, repeats what
// must also be done when this process was killed.
func (b *bed) end() {
	if os.Getpid() == 1 {
		syscall.Kill(-1, syscall.SIGKILL)
	}
	b.mutex.Lock()
	components := b.components
	b.mutex.Unlock()
	for _, c := range components {
		c.stop()
	}
	if os.Getpid() == 1 {
		detachMounts(b.Dir)
		removeCgroups(b.Cgroup)
	}
	if err := removeData(b.options); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// freePort returns a port below the kernel's range for outgoing connections, so that the port of a stopped server is
// still free when it is started again.
func freePort() (int, error) {
	const lowest, highest, tries = 20000, 32000, 100
	for range tries {
		port := lowest + rand.Intn(highest-lowest)
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			listener.Close()
			return port, nil
		}
	}
	return 0, errors.New("no free port on 127.0.0.1")
}
