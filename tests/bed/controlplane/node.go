package main

// A real node: containerd and runc of the machine, and the kubelet of this program, with all files in the directory of
// the bed.
//
// The machine is not changed. Mounts in the bed's own namespace hide from the machine what the programs write to fixed
// paths: sockets of containerd's shims, symlinks to pod logs, kernel settings.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// This name resolves to the address on which the kubelet listens, so that `kubectl logs` works.
	nodeName     = "localhost"
	cniPlugins   = "/usr/lib/cni"
	cgroupRoot   = "/sys/fs/cgroup"
	cgroupPrefix = "opsybed-"
	// Linux's limit for the path of a socket, minus the longest socket path below the directory.
	longestDir = 107 - len("/containerd/containerd.sock.ttrpc")
)

// Kernel settings that the kubelet, and the CNI plugin for pod networks, would change for the whole machine.
var kernelSettings = map[string]string{
	"vm/overcommit_memory": "1", "vm/panic_on_oom": "0", "kernel/panic": "10", "kernel/panic_on_oops": "1",
	"kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
	"net/ipv4/ip_forward": "1",
}

func nodeMissing(o options) string {
	if os.Geteuid() != 0 {
		return "not root"
	}
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	for _, program := range []string{"containerd", "ctr", "runc"} {
		if _, err := exec.LookPath(program); err != nil {
			return program + " is not installed"
		}
	}
	if !executable(filepath.Join(cniPlugins, "ptp")) {
		return "no CNI plugins in " + cniPlugins
	}
	if o.Images == "" {
		return "no images given (--images)"
	}
	if len(o.Dir) > longestDir {
		return fmt.Sprintf("the path of --dir is longer than %d characters", longestDir)
	}
	if err := makeCgroups(o.Cgroup); err != nil {
		removeCgroups(o.Cgroup)
		return err.Error()
	}
	return ""
}

// enterNode prepares the new PID and mount namespaces, in which it runs.
func enterNode(o options) error {
	if err := ownRoot(o.Dir); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cannot make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("cannot mount /proc: %w", err)
	}
	for _, dir := range []string{"/run/containerd", "/var/log", "/var/lib/cni", "/var/lib/kubelet"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("cannot mount a tmpfs on %s: %w", dir, err)
		}
	}
	settings := filepath.Join(o.Dir, "node", "kernel")
	if err := os.MkdirAll(settings, 0o755); err != nil {
		return err
	}
	for name, value := range kernelSettings {
		file := filepath.Join(settings, filepath.Base(name))
		if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		target := filepath.Join("/proc/sys", name)
		if _, err := os.Stat(target); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := unix.Mount(file, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("cannot mount over %s: %w", target, err)
		}
	}
	return nil
}

// ownRoot makes the root a mount point, because runc requires one; in a chroot it is not.
func ownRoot(dir string) error {
	if points, _ := mounts("/"); slices.Contains(points, "/") {
		return nil
	}
	root := filepath.Join(dir, "node", "root")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("/", root, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("cannot bind-mount the root: %w", err)
	}
	return errors.Join(unix.Chroot(root), unix.Chdir("/"))
}

// overlay returns whether containerd can use overlayfs in the directory of the bed. Otherwise every layer is copied
// for every container, which takes seconds.
func (b *bed) overlay() bool {
	dir := b.path("node", "overlay")
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if os.MkdirAll(filepath.Join(dir, name), 0o755) != nil {
			return false
		}
	}
	merged := filepath.Join(dir, "merged")
	options := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", dir)
	if unix.Mount("overlay", merged, "overlay", 0, options) != nil {
		return false
	}
	return unix.Unmount(merged, 0) == nil
}

// registries is the directory in which tests configure the mirror of each registry.
func (b *bed) registries() string { return b.path("node", "certs.d") }

func (b *bed) socket() string { return b.path("containerd", "containerd.sock") }

func (b *bed) ctr() []string {
	return []string{"ctr", "--address", b.socket(), "--namespace", "k8s.io"}
}

func (b *bed) startContainerd() error {
	b.snapshotter = "native"
	if b.overlay() {
		b.snapshotter = "overlayfs"
	}
	config := fmt.Sprintf(`version = 2
root = %q
state = %q
[grpc]
  address = %q
[debug]
  level = "warn"
[plugins."io.containerd.internal.v1.opt"]
  path = %q
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:bed"
  # A container's runtime may not lower the score in an unprivileged machine.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  disable_tcp_service = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = %q
    conf_dir = %q
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = %q
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = %q
`, b.path("containerd", "root"), b.path("containerd", "state"), b.socket(), b.path("containerd", "opt"),
		cniPlugins, b.path("node", "cni"), b.snapshotter, b.registries())
	if err := os.MkdirAll(b.registries(), 0o755); err != nil {
		return err
	}
	network := fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "bed", "plugins": [{"type": "ptp",
  "ipam": {"type": "host-local", "dataDir": %q, "subnet": "10.%d.%d.0/24", "routes": [{"dst": "0.0.0.0/0"}]}}]}`,
		b.path("node", "ipam"), 200+rand.Intn(50), rand.Intn(256))
	files := map[string]string{
		b.path("containerd", "config.toml"):   config,
		b.path("node", "cni", "bed.conflist"): network,
	}
	for path, text := range files {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	containerd := b.add("containerd", "containerd", func() error {
		_, err := run(b.path("node"), "ctr", append(b.ctr()[1:], "images", "list", "--quiet")...)
		return err
	}, "--config", b.path("containerd", "config.toml"))
	if err := containerd.startReady(readyWithin); err != nil {
		return fmt.Errorf("%w\n%s", err, tail(containerd.log))
	}
	return nil
}

func (b *bed) startKubelet() error {
	port, err := freePort()
	if err != nil {
		return err
	}
	// The file of the machine may be a link into a directory that is hidden here.
	resolve, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(b.path("node", "resolv.conf"), resolve, 0o644); err != nil {
		return err
	}
	config, err := json.MarshalIndent(map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"address": "127.0.0.1", "port": port, "healthzPort": 0, "readOnlyPort": 0,
		"authentication": map[string]any{
			"anonymous": map[string]any{"enabled": false}, "webhook": map[string]any{"enabled": false},
			"x509": map[string]any{"clientCAFile": b.path("pki", "ca.crt")},
		},
		"authorization":            map[string]any{"mode": "AlwaysAllow"},
		"containerRuntimeEndpoint": "unix://" + b.socket(),
		"cgroupDriver":             "cgroupfs", "cgroupRoot": "/" + b.Cgroup, "failCgroupV1": false,
		"failSwapOn": false, "makeIPTablesUtilChains": false, "resolvConf": b.path("node", "resolv.conf"),
		// A full disk on a developer's machine must not cause rejected pods or deleted images.
		"evictionHard": map[string]any{}, "localStorageCapacityIsolation": false,
		"imageGCHighThresholdPercent": 100,
		"podLogsDir":                  b.path("kubelet", "logs"), "volumePluginDir": b.path("kubelet", "plugins"),
		"serializeImagePulls": false, "syncFrequency": "10s",
		"nodeStatusUpdateFrequency": "4s", "nodeLeaseDurationSeconds": 12,
	}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(b.path("node", "kubelet.json"), config, 0o644); err != nil {
		return err
	}
	kubelet := b.component("kubelet", b.nodeReady, "--config="+b.path("node", "kubelet.json"),
		"--kubeconfig="+b.path("pki", "kubelet.kubeconfig"), "--root-dir="+b.path("kubelet"),
		"--cert-dir="+b.path("kubelet", "pki"), "--hostname-override="+nodeName)
	if err := kubelet.startReady(readyWithin); err != nil {
		return fmt.Errorf("%w\n%s", err, tail(kubelet.log))
	}
	return nil
}

func (b *bed) nodeReady() error {
	var node struct {
		Spec   struct{ Taints []struct{ Key string } }
		Status struct {
			Conditions []struct{ Type, Status, Message string }
		}
	}
	if err := b.get("/api/v1/nodes/"+nodeName, &node); err != nil {
		return err
	}
	if len(node.Spec.Taints) > 0 {
		return fmt.Errorf("tainted %v", node.Spec.Taints)
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == "Ready" && condition.Status == "True" {
			return nil
		}
	}
	return fmt.Errorf("%v", node.Status.Conditions)
}

// mounts returns the mount points at or below a directory, and their file system types, outermost first.
func mounts(below string) (points, types []string) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, nil
	}
	for _, line := range strings.Split(string(text), "\n") {
		before, after, found := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if !found || len(fields) < 5 {
			continue
		}
		point := fields[4]
		if point == below || strings.HasPrefix(point, strings.TrimSuffix(below, "/")+"/") {
			points = append(points, point)
			types = append(types, strings.Fields(after)[0])
		}
	}
	return points, types
}

func detachMounts(dir string) {
	points, _ := mounts(dir)
	for _, point := range slices.Backward(points) {
		unix.Unmount(point, unix.MNT_DETACH)
	}
}

// hierarchies returns the mount points of cgroups, version 1 or 2.
func hierarchies() []string {
	points, types := mounts(cgroupRoot)
	var found []string
	for i, point := range points {
		if types[i] == "cgroup" || types[i] == "cgroup2" {
			found = append(found, point)
		}
	}
	return found
}

// makeCgroups creates the cgroup that contains all pods, in every hierarchy.
func makeCgroups(name string) error {
	all := hierarchies()
	if len(all) == 0 {
		return errors.New("no cgroups in " + cgroupRoot)
	}
	for _, hierarchy := range all {
		own := filepath.Join(hierarchy, name)
		// In version 2, a controller is available to children only if the parent enables it.
		controllers, _ := os.ReadFile(filepath.Join(hierarchy, "cgroup.controllers"))
		for _, controller := range strings.Fields(string(controllers)) {
			os.WriteFile(filepath.Join(hierarchy, "cgroup.subtree_control"), []byte("+"+controller), 0)
		}
		if err := os.Mkdir(own, 0o755); err != nil {
			return fmt.Errorf("cannot create a cgroup: %w", err)
		}
		// In version 1, a new cpuset is empty, and no process can run in it.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			if value, err := os.ReadFile(filepath.Join(hierarchy, file)); err == nil {
				os.WriteFile(filepath.Join(own, file), value, 0)
			}
		}
	}
	return nil
}

// removeCgroups removes a cgroup in every hierarchy. It waits for killed processes to exit.
func removeCgroups(name string) {
	const within = 5 * time.Second
	until := time.Now().Add(within)
	for _, hierarchy := range hierarchies() {
		for !removeCgroup(filepath.Join(hierarchy, name)) && time.Now().Before(until) {
			time.Sleep(20 * time.Millisecond)
		}
	}
}

func removeCgroup(path string) bool {
	entries, err := os.ReadDir(path)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	for _, entry := range entries {
		if entry.IsDir() && !removeCgroup(filepath.Join(path, entry.Name())) {
			return false
		}
	}
	err = unix.Rmdir(path)
	return err == nil || errors.Is(err, fs.ErrNotExist)
}

// sweepCgroups removes the cgroups of earlier beds whose two processes were killed at the same time.
func sweepCgroups() {
	for _, hierarchy := range hierarchies() {
		left, _ := filepath.Glob(filepath.Join(hierarchy, cgroupPrefix+"*"))
		for _, path := range left {
			pid, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(path), cgroupPrefix))
			if err == nil && errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
				removeCgroup(path)
			}
		}
	}
}
