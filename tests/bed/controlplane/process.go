package main

// Children of the bed: started from one thread, reaped in one place, and killed with the bed.
//
// The parent-death signal is sent when the forking thread ends, so all forks happen on one thread that
// lives as long as the bed. wait4(-1) reaps all children, because the bed is process 1 of the node's
// PID namespace and also becomes the parent of containerd's orphans.

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

type child struct {
	name string
	pid  int
	done chan struct{}
	how  syscall.WaitStatus
}

type spawnRequest struct {
	path  string
	argv  []string
	log   *os.File
	reply chan spawnReply
}

type spawnReply struct {
	pid int
	err error
}

var (
	children      = map[int]*child{}
	childrenMutex sync.Mutex
	spawns        = make(chan spawnRequest)
)

// startReaping starts the forking thread and the reaper. It must run before the first spawn.
func startReaping() {
	go func() {
		runtime.LockOSThread()
		for request := range spawns {
			process, err := os.StartProcess(request.path, request.argv, &os.ProcAttr{
				Files: []*os.File{nil, request.log, request.log},
				Sys:   &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true},
			})
			if err != nil {
				request.reply <- spawnReply{err: err}
				continue
			}
			request.reply <- spawnReply{pid: process.Pid}
			process.Release()
		}
	}()
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	go func() {
		for range ended {
			reap()
		}
	}()
}

func reap() {
	childrenMutex.Lock()
	defer childrenMutex.Unlock()
	for {
		var how syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &how, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if pid <= 0 {
			return
		}
		if c := children[pid]; c != nil {
			delete(children, pid)
			c.how = how
			close(c.done)
		}
	}
}

// spawn starts a program. It holds the lock during the fork, so that a child cannot be reaped before it is registered.
func spawn(name, logPath, program string, args ...string) (*child, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	childrenMutex.Lock()
	defer childrenMutex.Unlock()
	reply := make(chan spawnReply)
	spawns <- spawnRequest{path, append([]string{program}, args...), log, reply}
	started := <-reply
	if started.err != nil {
		return nil, fmt.Errorf("%s: %w", name, started.err)
	}
	c := &child{name: name, pid: started.pid, done: make(chan struct{})}
	children[c.pid] = c
	return c, nil
}

// run executes a short command and returns its output.
func run(dir string, program string, args ...string) (string, error) {
	out, err := os.CreateTemp(dir, "out-*")
	if err != nil {
		return "", err
	}
	out.Close()
	defer os.Remove(out.Name())
	c, err := spawn(program, out.Name(), program, args...)
	if err != nil {
		return "", err
	}
	<-c.done
	text, err := os.ReadFile(out.Name())
	if err == nil && c.how.ExitStatus() != 0 {
		err = fmt.Errorf("%s %s: exit status %d: %s", program, strings.Join(args, " "), c.how.ExitStatus(), text)
	}
	return string(text), err
}

// A component is a program of the bed that tests may stop and start.
type component struct {
	name    string
	program string
	args    []string
	log     string
	ready   func() error
	mutex   sync.Mutex
	child   *child
	paused  bool
	died    chan<- error
	stopped bool // stopped on request, so its exit is not a failure
}

func (c *component) start() error {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.child != nil {
		return nil
	}
	started, err := spawn(c.name, c.log, c.program, c.args...)
	if err != nil {
		return err
	}
	c.child, c.stopped, c.paused = started, false, false
	go func() {
		<-started.done
		c.mutex.Lock()
		defer c.mutex.Unlock()
		c.child = nil
		if !c.stopped {
			c.died <- fmt.Errorf("%s exited unexpectedly (%s):\n%s", c.name, describe(started.how), tail(c.log))
		}
	}()
	return nil
}

// startReady starts the program and waits until it is ready.
func (c *component) startReady(deadline time.Duration) error {
	if err := c.start(); err != nil {
		return err
	}
	if c.ready == nil {
		return nil
	}
	return eventually(c.name, deadline, c.ready)
}

func (c *component) stop() {
	c.mutex.Lock()
	running := c.child
	c.stopped = true
	if running != nil {
		syscall.Kill(running.pid, syscall.SIGKILL)
	}
	c.mutex.Unlock()
	if running != nil {
		<-running.done
		for c.running() {
			time.Sleep(time.Millisecond)
		}
	}
}

func (c *component) running() bool {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.child != nil
}

func (c *component) pause(paused bool) error {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.child == nil {
		return fmt.Errorf("%s is not running", c.name)
	}
	if c.paused == paused {
		return nil
	}
	c.paused = paused
	if !paused {
		return syscall.Kill(c.child.pid, syscall.SIGCONT)
	}
	if err := syscall.Kill(c.child.pid, syscall.SIGSTOP); err != nil {
		return err
	}
	// On a busy machine, it continues to serve for a while, until the last of its threads has stopped.
	for {
		err := unix.Waitid(unix.P_PID, c.child.pid, nil, unix.WSTOPPED, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// state returns the state for people and tests: running, paused or stopped, and the memory in use.
func (c *component) state() map[string]any {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	state := map[string]any{"state": "stopped", "program": c.program}
	if c.child != nil {
		state["state"], state["rss_kib"] = "running", rss(c.child.pid)
		if c.paused {
			state["state"] = "paused"
		}
	}
	return state
}

func rss(pid int) int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for _, line := range strings.Split(string(text), "\n") {
		var kib int
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kib); n == 1 {
			return kib
		}
	}
	return 0
}

func eventually(what string, deadline time.Duration, check func() error) error {
	until := time.Now().Add(deadline)
	for {
		err := check()
		if err == nil {
			return nil
		}
		if time.Now().After(until) {
			return fmt.Errorf("%s is not ready after %s: %w", what, deadline, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func describe(how syscall.WaitStatus) string {
	if how.Signaled() {
		return how.Signal().String()
	}
	return fmt.Sprintf("exit status %d", how.ExitStatus())
}

const tailBytes = 3000

func tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return filepath.Base(path) + ": ... " + string(text[max(0, len(text)-tailBytes):])
}
