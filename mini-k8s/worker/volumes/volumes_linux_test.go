package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// shelf is what the API server has, by kind and name.
type shelf map[string]Content

func (s shelf) read(kind, name string, optional bool) (Content, error) {
	content, found := s[kind+" "+name]
	if !found && !optional {
		return nil, fmt.Errorf("%s %q not found", strings.ToLower(kind), name)
	}
	return content, nil
}

func text(pairs ...string) Content {
	c := Content{}
	for i := 0; i < len(pairs); i += 2 {
		c[pairs[i]] = []byte(pairs[i+1])
	}
	return c
}

// newPod returns a pod with these volumes and this security context, which a spec says in YAML.
func newPod(t *testing.T, spec string) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{}
	if err := yaml.UnmarshalStrict([]byte(spec), &pod.Spec); err != nil {
		t.Fatal(err)
	}
	pod.Namespace, pod.Name, pod.UID = "default", "web", "web-uid"
	return pod
}

func newDir(t *testing.T) Dir {
	dir := filepath.Join(t.TempDir(), "pods")
	t.Cleanup(func() {
		if err := Remove(dir); err != nil {
			t.Error(err)
		}
	})
	return Dir(dir)
}

func mustMake(t *testing.T, d Dir, pod *corev1.Pod, s shelf) {
	t.Helper()
	if err := d.Make(pod, s.read); err != nil {
		t.Fatal(err)
	}
}

// shown lists the files that a volume shows, as a program in a container would find them: "path=content".
func shown(t *testing.T, d Dir, volume string) string {
	t.Helper()
	var all []string
	root := filepath.Join(d.of("web-uid"), volume)
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), "..") {
			continue
		}
		resolved, err := filepath.EvalSymlinks(filepath.Join(root, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		err = filepath.WalkDir(resolved, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			all = append(all, entry.Name()+strings.TrimPrefix(path, resolved)+"="+string(data))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return strings.Join(all, " ")
}

func TestWhatAVolumeShows(t *testing.T) {
	settings := text("color", "blue", "size", "XL")
	settings["picture"] = []byte{1}
	all := shelf{"ConfigMap settings": settings, "Secret key": text("password", "hunter2")}
	for _, row := range []struct{ name, volume, want, err string }{
		{"all keys", `configMap: {name: settings}`, "color=blue picture=\x01 size=XL", ""},
		{"a secret", `secret: {secretName: key}`, "password=hunter2", ""},
		{"items", `configMap: {name: settings, items: [{key: color, path: a}, {key: color, path: b/c/d}, {key: size, path: b/e}]}`, "a=blue b/c/d=blue b/e=XL", ""},
		{"what is not there", `configMap: {name: none}`, "", `MountVolume.SetUp failed for volume "v" : configmap "none" not found`},
		{"what may be missing", `secret: {secretName: none, optional: true}`, "", ""},
		{"a key that is not there", `secret: {secretName: key, items: [{key: a, path: b}]}`, "", `MountVolume.SetUp failed for volume "v" : secret "key" references non-existent key: a`},
		{"a key that may be missing", `secret: {secretName: key, optional: true, items: [{key: a, path: b}, {key: password, path: c}]}`, "c=hunter2", ""},
		{"a way out", `configMap: {name: settings, items: [{key: color, path: ../../a}]}`, "", `path "../../a" leads out of the volume`},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := newDir(t)
			err := d.Make(newPod(t, `volumes: [{name: v, `+row.volume+`}]`), all.read)
			if row.err != "" {
				if err == nil || !strings.Contains(err.Error(), row.err) {
					t.Errorf("the error is %v, want %s", err, row.err)
				}
				return
			}
			if got := shown(t, d, "v"); err != nil || got != row.want {
				t.Errorf("it shows %q (%v), want %q", got, err, row.want)
			}
		})
	}
}

func TestModesAndGroupAreAsThePodSaysWhateverTheUmask(t *testing.T) {
	defer unix.Umask(unix.Umask(0o077))
	d := newDir(t)
	group := os.Getgid()
	pod := newPod(t, fmt.Sprintf(`{securityContext: {fsGroup: %d}, volumes: [{name: e}, {name: s, secret: {secretName: key, defaultMode: 0400,
		items: [{key: a, path: a}, {key: a, path: b/c, mode: 0600}]}}]}`, group))
	pod.Spec.Volumes[0].EmptyDir = &corev1.EmptyDirVolumeSource{}
	mustMake(t, d, pod, shelf{"Secret key": text("a", "1")})
	for path, want := range map[string]string{"": "drwx------", "e": "dgrwxrwxrwx", "s": "drwxr-xr-x", "s/a": "-r--r-----", "s/b": "drwxr-xr-x", "s/b/c": "-rw-r-----"} {
		info, err := os.Stat(filepath.Join(d.of("web-uid"), path))
		if err != nil || info.Mode().String() != want {
			t.Errorf("%q has the mode %v (%v), want %s", path, info.Mode(), err, want)
		}
	}
}

func TestContentChangesInOneStep(t *testing.T) {
	d := newDir(t)
	pod := newPod(t, `volumes: [{name: v, configMap: {name: settings}}]`)
	mustMake(t, d, pod, shelf{"ConfigMap settings": text("a", "1", "b", "1")})
	volume := filepath.Join(d.of(pod.UID), "v")
	before, _ := os.Readlink(filepath.Join(volume, current))
	info, _ := os.Lstat(filepath.Join(volume, before))
	mustMake(t, d, pod, shelf{"ConfigMap settings": text("a", "1", "b", "1")})
	if again, err := os.Lstat(filepath.Join(volume, before)); err != nil || !os.SameFile(info, again) {
		t.Errorf("what had not changed was written again (%v)", err)
	}

	stop, done := make(chan struct{}), make(chan string)
	go func() { // a program that reads two files through ..data, as one that wants both of one time does
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			dir, err := os.Open(filepath.Join(volume, current))
			if errors.Is(err, fs.ErrNotExist) { // what it led to was removed at the same moment
				continue
			}
			if err != nil {
				done <- err.Error()
				return
			}
			a, err1 := readAt(dir, "a")
			b, err2 := readAt(dir, "b")
			dir.Close()
			gone := errors.Is(errors.Join(err1, err2), fs.ErrNotExist) // removed since it was opened
			if !gone && a != b {
				done <- "a is " + a + " while b is " + b
				return
			}
		}
	}()
	for i := range 200 {
		n := fmt.Sprint(i)
		if err := d.Make(pod, shelf{"ConfigMap settings": text("a", n, "b", n)}.read); err != nil {
			t.Fatal(err)
		}
		if got := shown(t, d, "v"); got != "a="+n+" b="+n {
			t.Fatalf("it shows %q", got)
		}
	}
	close(stop)
	for said := range done {
		t.Error(said)
	}
	if err := d.Make(pod, shelf{"ConfigMap settings": text("b", "x", "c", "y")}.read); err != nil {
		t.Fatal(err)
	}
	if got := shown(t, d, "v"); got != "b=x c=y" {
		t.Errorf("it shows %q", got)
	}
	entries, _ := os.ReadDir(volume)
	if len(entries) != 4 { // b, c, ..data and where that leads
		t.Errorf("in the volume there are %v", entries)
	}
}

func readAt(dir *os.File, name string) (string, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	data := make([]byte, 16)
	n, err := f.Read(data)
	return string(data[:n]), err
}

func TestAnInterruptedChangeIsDoneByTheNext(t *testing.T) {
	d := newDir(t)
	pod := newPod(t, `volumes: [{name: v, configMap: {name: settings}}]`)
	mustMake(t, d, pod, shelf{"ConfigMap settings": text("a", "1")})
	volume := filepath.Join(d.of(pod.UID), "v")
	// Half of a later version was written, a link is missing, and the link of one moment is there.
	for _, err := range []error{os.Mkdir(filepath.Join(volume, "..half"), 0o700), os.Remove(filepath.Join(volume, "a")),
		os.Symlink("..half", filepath.Join(volume, "..data_tmp"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	mustMake(t, d, pod, shelf{"ConfigMap settings": text("a", "1")})
	entries, _ := os.ReadDir(volume)
	if got := shown(t, d, "v"); got != "a=1" || len(entries) != 3 {
		t.Errorf("it shows %q, and there are %v", got, entries)
	}
}

func TestAFailureLeavesTheContentOfBefore(t *testing.T) {
	d := newDir(t)
	pod := newPod(t, `volumes: [{name: v, configMap: {name: settings}}]`)
	mustMake(t, d, pod, shelf{"ConfigMap settings": text("a", "1")})
	if err := d.Make(pod, shelf{}.read); err == nil || shown(t, d, "v") != "a=1" {
		t.Errorf("the error is %v, it shows %q", err, shown(t, d, "v"))
	}
	long := strings.Repeat("x", 300) // no file has such a name
	if err := d.Make(pod, shelf{"ConfigMap settings": text("a", "2", long, "2")}.read); err == nil || shown(t, d, "v") != "a=1" {
		t.Errorf("the error is %v, it shows %q", err, shown(t, d, "v"))
	}
	entries, _ := os.ReadDir(filepath.Join(d.of(pod.UID), "v"))
	if len(entries) != 3 {
		t.Errorf("of the attempt there is something left: %v", entries)
	}
}

// needRoot skips what only root may do; where all tests must run it is a failure to be somebody else.
func needRoot(t *testing.T, to string) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("only root may " + to)
	}
	t.Skip("only root may " + to)
}

func TestADiskThatIsFullIsAnError(t *testing.T) {
	needRoot(t, "mount the small disk of this test")
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(disk, unix.MNT_DETACH) })
	d := Dir(filepath.Join(disk, "pods"))
	pod := newPod(t, `volumes: [{name: v, configMap: {name: settings}}]`)
	large := text("a", strings.Repeat("x", 50_000), "b", strings.Repeat("y", 50_000))
	if err := d.Make(pod, shelf{"ConfigMap settings": large}.read); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("the error is %v", err)
	}
	if _, err := os.Lstat(filepath.Join(d.of(pod.UID), "v", current)); err == nil {
		t.Error("what could not be written whole is shown")
	}
	mustMake(t, d, pod, shelf{"ConfigMap settings": text("a", "1")}) // there is room again: half of it is not left lying about
	if got := shown(t, d, "v"); got != "a=1" {
		t.Errorf("it shows %q", got)
	}
}

func TestAnEmptyDirIsMadeOnceAndGoesWithItsPod(t *testing.T) {
	for _, medium := range []string{"", "Memory"} {
		t.Run("medium "+medium, func(t *testing.T) {
			if medium != "" {
				needRoot(t, "mount memory")
			}
			d := newDir(t)
			pod := newPod(t, `volumes: [{name: v, emptyDir: {medium: "`+medium+`"}}]`)
			mustMake(t, d, pod, nil)
			path := filepath.Join(d.of(pod.UID), "v")
			var disk unix.Statfs_t
			if err := unix.Statfs(path, &disk); err != nil || (disk.Type == unix.TMPFS_MAGIC) != (medium != "") {
				t.Errorf("its file system is %x (%v)", disk.Type, err)
			}
			for _, err := range []error{os.WriteFile(filepath.Join(path, "mine"), []byte("data"), 0o600), os.Chmod(path, 0o700)} { // as a database does
				if err != nil {
					t.Fatal(err)
				}
			}
			mustMake(t, d, pod, nil)
			data, err := os.ReadFile(filepath.Join(path, "mine"))
			if info, _ := os.Stat(path); string(data) != "data" || info.Mode().Perm() != 0o700 {
				t.Errorf("it has %q (%v), and the mode %v", data, err, info.Mode())
			}
			if uids := d.Pods(); len(uids) != 1 || uids[0] != pod.UID {
				t.Errorf("there are files of the pods %v", uids)
			}
			if err := d.Remove(pod.UID); err != nil {
				t.Fatal(err)
			}
			if uids := d.Pods(); len(uids) != 0 {
				t.Errorf("then there are files of the pods %v", uids)
			}
		})
	}
}

func TestHostPathsAreCheckedAndNeverRemoved(t *testing.T) {
	for _, row := range []struct{ kind, path, err string }{
		{"", "dir", ""}, {"", "file", ""}, {"", "new/one", ""},
		{"Directory", "dir", ""}, {"Directory", "file", "file is not of the type"}, {"Directory", "new", "new is not of the type"},
		{"DirectoryOrCreate", "dir", ""}, {"DirectoryOrCreate", "new/one", ""}, {"DirectoryOrCreate", "file", "file is not of the type"},
		{"File", "file", ""}, {"File", "dir", "dir is not of the type"}, {"File", "new", "new is not of the type"},
		{"FileOrCreate", "file", ""}, {"FileOrCreate", "new", ""}, {"FileOrCreate", "new/one", "no such file or directory"},
		{"Socket", "file", "file is not of the type Socket"}, {"CharDevice", "dir", "dir is not of the type CharDevice"}, {"BlockDevice", "new", "new is not of the type BlockDevice"},
	} {
		t.Run(strings.TrimSpace(row.kind+" "+row.path), func(t *testing.T) {
			machine := t.TempDir()
			for _, err := range []error{os.Mkdir(filepath.Join(machine, "dir"), 0o755), os.WriteFile(filepath.Join(machine, "file"), nil, 0o644)} {
				if err != nil {
					t.Fatal(err)
				}
			}
			d, path := newDir(t), filepath.Join(machine, row.path)
			pod := newPod(t, `volumes: [{name: v, hostPath: {path: "`+path+`", type: "`+row.kind+`"}}]`)
			err := d.Make(pod, nil)
			if (err == nil) != (row.err == "") || err != nil && !strings.Contains(err.Error(), row.err) {
				t.Fatalf("the error is %v, want %s", err, row.err)
			}
			if err := d.Remove(pod.UID); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Lstat(path); row.err == "" && err != nil {
				t.Errorf("it is not there (any more): %v", err)
			}
		})
	}
}

func TestWhatAMountLeadsTo(t *testing.T) {
	d, machine := newDir(t), t.TempDir()
	pod := newPod(t, `volumes: [{name: e, emptyDir: {}}, {name: h, hostPath: {path: `+machine+`}}, {name: c, configMap: {name: settings}}]`)
	mustMake(t, d, pod, shelf{"ConfigMap settings": text("a", "1")})
	own := d.of(pod.UID)
	for _, err := range []error{os.Symlink("/etc", filepath.Join(own, "e", "out")), os.Symlink("..", filepath.Join(own, "e", "up")),
		os.MkdirAll(filepath.Join(own, "e", "there"), 0o700), os.Symlink("there", filepath.Join(own, "e", "link"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	version, _ := os.Readlink(filepath.Join(own, "c", current))
	for _, row := range []struct {
		volume, subPath, want string // no path: an error
		asked, readOnly       bool
	}{
		{"e", "", own + "/e", false, false}, {"e", "", own + "/e", true, true}, {"h", "", machine, false, false},
		{"c", "", own + "/c", false, true}, {"c", "a", own + "/c/" + version + "/a", false, true},
		{"e", "new/one", own + "/e/new/one", false, false}, {"e", "link", own + "/e/there", false, false}, {"h", "new", machine + "/new", false, false},
		{"c", "none", "", false, false}, {"e", "out", "", false, false}, {"e", "up", "", false, false}, {"e", "out/new", "", false, false}, {"e", "../c", "", false, false},
		{"x", "", "", false, false},
	} {
		t.Run(fmt.Sprint(row.volume, " ", row.subPath, row.asked), func(t *testing.T) {
			path, readOnly, err := d.Source(pod, corev1.VolumeMount{Name: row.volume, SubPath: row.subPath, ReadOnly: row.asked})
			if path != row.want || readOnly != row.readOnly || (err == nil) != (row.want != "") {
				t.Errorf("it is %q, read-only %v (%v); want %q, %v", path, readOnly, err, row.want, row.readOnly)
			}
		})
	}
	if entries, _ := os.ReadDir("/etc"); slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == "new" }) {
		t.Error("a link led out of the volume")
	}
}

func TestADirectoryOfWhichThereIsNothingHasNoPods(t *testing.T) {
	for _, d := range []Dir{"", newDir(t)} {
		if uids := d.Pods(); len(uids) > 0 {
			t.Errorf("%q has files of the pods %v", d, uids)
		}
		if err := d.Remove("web-uid"); err != nil {
			t.Error(err)
		}
	}
}
