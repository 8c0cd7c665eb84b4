package main

// Images without a registry: layers are tar files, and image archives have the format of `docker save`.

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

const (
	imagePause   = "localhost/pause:bed"
	imagePacker  = "localhost/packer:bed"
	imageGitSync = "localhost/git-sync:bed"
	imageOpsy    = "localhost/opsy:bed"
)

type image struct {
	name       string
	entrypoint []string
	layers     []string
}

// An entry of a layer: a file to copy, a file with the given text, or, if both are empty, a directory.
type entry struct {
	path string
	mode int64
	from string
	text string
}

// The files that an image needs so that its users and groups have names.
var accounts = []entry{
	{path: "tmp", mode: 0o1777},
	{path: "etc/passwd", mode: 0o644, text: "root:x:0:0:root:/root:/bin/sh\nopsy:x:65532:65532:opsy:/tmp:/bin/false\n"},
	{path: "etc/group", mode: 0o644, text: "root:x:0:\nopsy:x:65532:\n"},
	{path: "etc/nsswitch.conf", mode: 0o644, text: "hosts: files dns\n"},
}

func writeLayer(path string, entries []entry) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	out := tar.NewWriter(file)
	for _, e := range entries {
		if err := writeEntry(out, e); err != nil {
			return err
		}
	}
	return out.Close()
}

func writeEntry(out *tar.Writer, e entry) error {
	if e.from == "" && e.text == "" {
		return out.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: e.path + "/", Mode: e.mode})
	}
	var content io.Reader = strings.NewReader(e.text)
	size := int64(len(e.text))
	if e.from != "" {
		file, err := os.Open(e.from)
		if err != nil {
			return err
		}
		defer file.Close()
		info, err := file.Stat()
		if err != nil {
			return err
		}
		content, size = file, info.Size()
	}
	if err := out.WriteHeader(&tar.Header{Name: e.path, Mode: e.mode, Size: size}); err != nil {
		return err
	}
	_, err := io.Copy(out, content)
	return err
}

func digest(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// writeArchive writes an image archive. A layer that several images share is stored once.
func writeArchive(path string, images []image) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	out := tar.NewWriter(file)
	digests := map[string]string{}
	var manifest []map[string]any
	for _, i := range images {
		var layers, diffs []string
		for _, layer := range i.layers {
			if digests[layer] == "" {
				if digests[layer], err = digest(layer); err != nil {
					return err
				}
				if err := writeEntry(out, entry{path: digests[layer] + ".tar", mode: 0o644, from: layer}); err != nil {
					return err
				}
			}
			layers = append(layers, digests[layer]+".tar")
			diffs = append(diffs, "sha256:"+digests[layer])
		}
		config, err := json.Marshal(map[string]any{
			"architecture": runtime.GOARCH, "os": "linux",
			"config": map[string]any{"Entrypoint": i.entrypoint, "WorkingDir": "/",
				"Env": []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}},
			"rootfs": map[string]any{"type": "layers", "diff_ids": diffs},
		})
		if err != nil {
			return err
		}
		sum := sha256.Sum256(config)
		name := hex.EncodeToString(sum[:]) + ".json"
		if err := writeEntry(out, entry{path: name, mode: 0o644, text: string(config)}); err != nil {
			return err
		}
		manifest = append(manifest, map[string]any{"Config": name, "RepoTags": []string{i.name}, "Layers": layers})
	}
	text, err := json.Marshal(manifest)
	if err != nil {
		return err
	}
	if err := writeEntry(out, entry{path: "manifest.json", mode: 0o644, text: string(text)}); err != nil {
		return err
	}
	return out.Close()
}

// archive is the subcommand that creates the images that do not depend on Opsy.
func archive(args []string) error {
	flags := flag.NewFlagSet("archive", flag.ContinueOnError)
	packer := flags.String("packer-layer", "", "tar file of a root file system with Packer and git")
	gitSync := flags.String("git-sync", "", "git-sync program or script")
	pause := flags.String("pause", "", "static pause program")
	out := flags.String("out", "", "path of the archive to write")
	if err := flags.Parse(args); err != nil {
		return err
	}
	temporary, err := os.MkdirTemp(filepath.Dir(*out), "layers-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	pauseLayer, gitSyncLayer := filepath.Join(temporary, "pause"), filepath.Join(temporary, "git-sync")
	if err := writeLayer(pauseLayer, []entry{{path: "pause", mode: 0o755, from: *pause}}); err != nil {
		return err
	}
	if err := writeLayer(gitSyncLayer, []entry{{path: "git-sync", mode: 0o755, from: *gitSync}}); err != nil {
		return err
	}
	return writeArchive(*out, []image{
		{imagePause, []string{"/pause"}, []string{pauseLayer}},
		{imagePacker, []string{"/usr/bin/packer"}, []string{*packer}},
		{imageGitSync, []string{"/git-sync"}, []string{*packer, gitSyncLayer}},
	})
}

func (b *bed) importImages(archive string) error {
	_, err := run(b.path("node"), "ctr", append(b.ctr()[1:], "images", "import", "--snapshotter", b.snapshotter, archive)...)
	return err
}

// importOpsy creates localhost/opsy:bed from the given programs and the shared libraries of the first one.
func (b *bed) importOpsy(opsy, runner string) error {
	dir, err := os.MkdirTemp(b.path("node"), "opsy-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	entries := append([]entry{{path: "opsy", mode: 0o755, from: opsy}}, accounts...)
	if runner != "" {
		entries = append(entries, entry{path: "opsy-runner", mode: 0o755, from: runner})
	}
	const authorities = "/etc/ssl/certs/ca-certificates.crt"
	if _, err := os.Stat(authorities); err == nil {
		entries = append(entries, entry{path: strings.TrimPrefix(authorities, "/"), mode: 0o644, from: authorities})
	}
	libraries, err := linked(b.path("node"), opsy)
	if err != nil {
		return err
	}
	for _, library := range libraries {
		entries = append(entries, entry{path: strings.TrimPrefix(library, "/"), mode: 0o755, from: library})
	}
	layer := filepath.Join(dir, "layer.tar")
	if err := writeLayer(layer, entries); err != nil {
		return err
	}
	file := filepath.Join(dir, "image.tar")
	if err := writeArchive(file, []image{{imageOpsy, []string{"/opsy"}, []string{layer}}}); err != nil {
		return err
	}
	return b.importImages(file)
}

// linked returns the shared libraries of a program, including its loader.
func linked(dir, program string) ([]string, error) {
	text, err := run(dir, "ldd", program)
	if strings.Contains(text, "not a dynamic executable") || strings.Contains(text, "statically linked") {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var found []string
	for _, line := range strings.Split(text, "\n") {
		for _, word := range strings.Fields(line) {
			if strings.HasPrefix(word, "/") {
				found = append(found, word)
			}
		}
		if strings.Contains(line, "not found") {
			return nil, fmt.Errorf("%s: %s", program, strings.TrimSpace(line))
		}
	}
	return found, nil
}

// images returns the images of the bed that the node has.
func (b *bed) images() (map[string]string, error) {
	text, err := run(b.path("node"), "ctr", append(b.ctr()[1:], "images", "list", "--quiet")...)
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for name, image := range map[string]string{"opsy": imageOpsy, "packer": imagePacker, "git_sync": imageGitSync} {
		if strings.Contains("\n"+text, "\n"+image+"\n") {
			found[name] = image
		}
	}
	return found, nil
}
