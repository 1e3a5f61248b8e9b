package pki

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"sigs.k8s.io/yaml"
)

// Kubeconfig says where a cluster is and who one is there, as kubectl reads it.
type Kubeconfig struct {
	Cluster string // its name, also that of the context
	Server  string
	CAPEM   []byte
	User    string
	Pair    Pair
}

// kubeconfigFile is the part of the format that is used here.
type kubeconfigFile struct {
	APIVersion     string  `json:"apiVersion"`
	Kind           string  `json:"kind"`
	Clusters       []entry `json:"clusters"`
	Users          []entry `json:"users"`
	Contexts       []entry `json:"contexts"`
	CurrentContext string  `json:"current-context"`
}

// entry is a cluster, a user, or a context: a cluster with a user. What are bytes here is base64 in the file.
type entry struct {
	Name    string `json:"name"`
	Cluster struct {
		Server string `json:"server"`
		CA     []byte `json:"certificate-authority-data"`
	} `json:"cluster,omitzero"`
	User struct {
		Cert []byte `json:"client-certificate-data"`
		Key  []byte `json:"client-key-data"`
	} `json:"user,omitzero"`
	Context struct {
		Cluster string `json:"cluster"`
		User    string `json:"user"`
	} `json:"context,omitzero"`
}

// Write keeps the kubeconfig in a file that only its owner can read.
func (k Kubeconfig) Write(path string) error {
	cluster, user, context := entry{Name: k.Cluster}, entry{Name: k.Cluster + "-" + k.User}, entry{Name: k.Cluster}
	cluster.Cluster.Server, cluster.Cluster.CA = k.Server, k.CAPEM
	user.User.Cert, user.User.Key = k.Pair.Cert, k.Pair.Key
	context.Context.Cluster, context.Context.User = cluster.Name, user.Name
	data, err := yaml.Marshal(kubeconfigFile{APIVersion: "v1", Kind: "Config", CurrentContext: context.Name,
		Clusters: []entry{cluster}, Users: []entry{user}, Contexts: []entry{context}})
	if err == nil {
		err = WritePrivate(path, data)
	}
	if err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return nil
}

// ReadKubeconfig reads the current context of a kubeconfig file, with certificates in the file itself.
func ReadKubeconfig(path string) (Kubeconfig, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Kubeconfig{}, err
	}
	var file kubeconfigFile
	if err := yaml.Unmarshal(data, &file); err != nil {
		return Kubeconfig{}, fmt.Errorf("%s is not a kubeconfig: %w", path, err)
	}
	context := find(file.Contexts, file.CurrentContext).Context
	cluster, user := find(file.Clusters, context.Cluster), find(file.Users, context.User)
	if cluster.Cluster.Server == "" || len(user.User.Cert) == 0 {
		return Kubeconfig{}, fmt.Errorf("kubeconfig %s: its current context names no cluster of mini-k8s", path)
	}
	return Kubeconfig{Cluster: cluster.Name, Server: cluster.Cluster.Server, CAPEM: cluster.Cluster.CA,
		User: user.Name, Pair: Pair{Cert: user.User.Cert, Key: user.User.Key}}, nil
}

// find returns the entry of the name, or an empty one.
func find(entries []entry, name string) entry {
	if at := slices.IndexFunc(entries, func(e entry) bool { return e.Name == name }); at >= 0 {
		return entries[at]
	}
	return entry{}
}

// WritePrivate writes a file that only its owner can read, all of it or nothing, also in the place of one that
// others could read. It makes the directory, if that is missing.
func WritePrivate(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // of mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(data)
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
