// Package main is a Kubernetes control plane and node in one program: the real etcd, kube-apiserver,
// kube-controller-manager, kube-scheduler, kubelet and kubectl as subcommands, and `up`, which runs
// them together for tests.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// programs can also be called by name, through links to this file.
var programs = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl"}

func main() {
	name := filepath.Base(os.Args[0])
	if !slices.Contains(programs, name) {
		if len(os.Args) < 2 {
			fmt.Fprintln(os.Stderr, "usage: opsy-controlplane up|archive|"+strings.Join(programs, "|")+" ...")
			os.Exit(2)
		}
		os.Args = os.Args[1:]
		name = os.Args[0]
	}
	os.Exit(dispatch(name))
}

// dispatch runs the program, which reads its command line from os.Args.
func dispatch(name string) int {
	switch name {
	case "up":
		return status(up(os.Args[1:]))
	case "up-inner":
		return status(upInner(os.Args[1]))
	case "archive":
		return status(archive(os.Args[1:]))
	case "etcd":
		etcdmain.Main(os.Args)
		return 0
	case "kube-apiserver":
		return cli.Run(apiserver.NewAPIServerCommand())
	case "kube-controller-manager":
		return cli.Run(controllermanager.NewControllerManagerCommand())
	case "kube-scheduler":
		return cli.Run(scheduler.NewSchedulerCommand())
	case "kubelet":
		return cli.Run(kubelet.NewKubeletCommand(context.Background()))
	case "kubectl":
		return cli.Run(kubectl.NewDefaultKubectlCommand())
	}
	return status(fmt.Errorf("unknown subcommand %q", name))
}

func status(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, "controlplane:", err)
		return 1
	}
	return 0
}
