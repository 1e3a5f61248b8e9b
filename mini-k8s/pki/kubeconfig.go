package pki

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"

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

// The parts of the file that are used here.
type kubeconfigFile struct {
	APIVersion     string         `json:"apiVersion"`
	Kind           string         `json:"kind"`
	Clusters       []namedCluster `json:"clusters"`
	Users          []namedUser    `json:"users"`
	Contexts       []namedContext `json:"contexts"`
	CurrentContext string         `json:"current-context"`
}

type namedCluster struct {
	Name    string `json:"name"`
	Cluster struct {
		Server string `json:"server"`
		CA     string `json:"certificate-authority-data"`
	} `json:"cluster"`
}

type namedUser struct {
	Name string `json:"name"`
	User struct {
		Cert string `json:"client-certificate-data"`
		Key  string `json:"client-key-data"`
	} `json:"user"`
}

type namedContext struct {
	Name    string `json:"name"`
	Context struct {
		Cluster string `json:"cluster"`
		User    string `json:"user"`
	} `json:"context"`
}

// Write keeps the kubeconfig in a file that only its owner can read.
func (k Kubeconfig) Write(path string) error {
	file := kubeconfigFile{APIVersion: "v1", Kind: "Config", Clusters: make([]namedCluster, 1), Users: make([]namedUser, 1), Contexts: make([]namedContext, 1)}
	encode := base64.StdEncoding.EncodeToString
	cluster, user, context := &file.Clusters[0], &file.Users[0], &file.Contexts[0]
	cluster.Name, cluster.Cluster.Server, cluster.Cluster.CA = k.Cluster, k.Server, encode(k.CAPEM)
	user.Name, user.User.Cert, user.User.Key = k.Cluster+"-"+k.User, encode(k.Pair.Cert), encode(k.Pair.Key)
	context.Name, context.Context.Cluster, context.Context.User = k.Cluster, cluster.Name, user.Name
	file.CurrentContext = context.Name
	data, err := yaml.Marshal(file)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	if err := writePrivate(path, data); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return nil
}

// ReadKubeconfig reads the current context of a kubeconfig file, with certificates in the file itself.
func ReadKubeconfig(path string) (Kubeconfig, error) {
	var k Kubeconfig
	data, err := os.ReadFile(path)
	if err != nil {
		return k, err
	}
	var file kubeconfigFile
	if err := yaml.Unmarshal(data, &file); err != nil {
		return k, fmt.Errorf("%s is not a kubeconfig: %w", path, err)
	}
	for _, context := range file.Contexts {
		if context.Name != file.CurrentContext {
			continue
		}
		for _, cluster := range file.Clusters {
			if cluster.Name == context.Context.Cluster {
				k.Cluster, k.Server = cluster.Name, cluster.Cluster.Server
				k.CAPEM, err = base64.StdEncoding.DecodeString(cluster.Cluster.CA)
			}
		}
		for _, user := range file.Users {
			if user.Name == context.Context.User {
				var certErr, keyErr error
				k.User = user.Name
				k.Pair.Cert, certErr = base64.StdEncoding.DecodeString(user.User.Cert)
				k.Pair.Key, keyErr = base64.StdEncoding.DecodeString(user.User.Key)
				err = errors.Join(err, certErr, keyErr)
			}
		}
	}
	if err == nil && (k.Server == "" || len(k.Pair.Cert) == 0) {
		err = errors.New("its current context names no cluster of mini-k8s")
	}
	if err != nil {
		return k, fmt.Errorf("read kubeconfig %s: %w", path, err)
	}
	return k, nil
}
