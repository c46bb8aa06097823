package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

func dataset(t *testing.T, files map[string]string) *os.Root {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "rootfs"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			if err := os.Symlink(target, name); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

func read(t *testing.T, root *os.Root, name string) string {
	t.Helper()
	content, err := root.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func userKey(t *testing.T, comment string) string {
	t.Helper()
	public, _, err := NewUserKey(comment)
	if err != nil {
		t.Fatal(err)
	}
	return public
}

func TestApplyReplacesAncestorsKeysAndKeepsTheUsers(t *testing.T) {
	source, grand, mine, users := userKey(t, "source"), userKey(t, "grand"), userKey(t, "mine"), userKey(t, "a user's own")
	root := dataset(t, map[string]string{
		"rootfs/root/.ssh/authorized_keys": "# by hand\n" + grand + "\nno-pty " + users + "\n" + source,
	})
	spec := Spec{AuthorizedKey: mine, RemoveKeys: []string{source, grand}}
	for range 2 { // a second run over its own result changes nothing
		if err := Apply(root, spec); err != nil {
			t.Fatal(err)
		}
		want := "# by hand\nno-pty " + users + "\n" + mine + "\n"
		if got := read(t, root, "rootfs/root/.ssh/authorized_keys"); got != want {
			t.Fatalf("authorized_keys:\n%s\nwant:\n%s", got, want)
		}
	}
}

func TestApplyMakesTheKeyFileWhereThereIsNone(t *testing.T) {
	root, mine := dataset(t, nil), userKey(t, "mine")
	if err := Apply(root, Spec{AuthorizedKey: mine}); err != nil {
		t.Fatal(err)
	}
	if got := read(t, root, "rootfs/root/.ssh/authorized_keys"); got != mine+"\n" {
		t.Errorf("authorized_keys: %q", got)
	}
	for name, want := range map[string]os.FileMode{"rootfs/root/.ssh": 0o700, "rootfs/root/.ssh/authorized_keys": 0o600} {
		info, err := root.Stat(name)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, err %v; want %v", name, info.Mode().Perm(), err, want)
		}
	}
}

func TestFirstCopyGetsNewHostKeysAndMachineID(t *testing.T) {
	old, err := newHostKey("ssh_host_ed25519_key")
	if err != nil {
		t.Fatal(err)
	}
	root := dataset(t, map[string]string{
		"rootfs/etc/ssh/ssh_host_ed25519_key":     string(old.Private),
		"rootfs/etc/ssh/ssh_host_ed25519_key.pub": string(old.Public),
		"rootfs/etc/ssh/ssh_host_rsa_key":         "old",
		"rootfs/etc/ssh/ssh_host_ecdsa_key":       "old",
		"rootfs/etc/ssh/ssh_host_dsa_key":         "no longer a type",
		"rootfs/etc/machine-id":                   "0123456789abcdef0123456789abcdef\n",
		"rootfs/var/lib/dbus/machine-id":          "0123456789abcdef0123456789abcdef\n",
		"rootfs/etc/hostname":                     "source\n",
	})
	if err := Apply(root, Spec{Hostname: "copy"}); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"ed25519", "rsa", "ecdsa"} {
		name := "rootfs/etc/ssh/ssh_host_" + kind + "_key"
		private := read(t, root, name)
		signer, err := ssh.ParsePrivateKey([]byte(private))
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if got := string(ssh.MarshalAuthorizedKey(signer.PublicKey())); got != read(t, root, name+".pub") {
			t.Errorf("%s: public file does not belong to the private one", kind)
		}
	}
	if read(t, root, "rootfs/etc/ssh/ssh_host_ed25519_key") == string(old.Private) {
		t.Error("the source's host key is still there")
	}
	if _, err := root.Stat("rootfs/etc/ssh/ssh_host_dsa_key"); !os.IsNotExist(err) {
		t.Errorf("dsa key: %v, want none", err)
	}
	id := strings.TrimSpace(read(t, root, "rootfs/etc/machine-id"))
	if len(id) != 32 || id == "0123456789abcdef0123456789abcdef" {
		t.Errorf("machine id %q", id)
	}
	if got := read(t, root, "rootfs/var/lib/dbus/machine-id"); strings.TrimSpace(got) != id {
		t.Errorf("dbus machine id %q, want %q", got, id)
	}
	if got := read(t, root, "rootfs/etc/hostname"); got != "copy\n" {
		t.Errorf("hostname %q", got)
	}
}

// A container whose disk is full keeps the keys it has: they are what somebody logs in with to make room. What was begun can be done again.
func TestWithoutRoomTheOldKeysStay(t *testing.T) {
	users, mine, next := userKey(t, "a user's own"), userKey(t, "mine"), userKey(t, "next")
	const keys, hostKeys = "rootfs/root/.ssh/authorized_keys", "rootfs/etc/ssh/ssh_host_"
	was := users + "\n" + mine + "\n"
	root := dataset(t, map[string]string{keys: was, hostKeys + "ed25519_key": "old", hostKeys + "ecdsa_key": "old"})
	full(t, func() {
		if err := Authorize(root, next, []string{mine}); err == nil {
			t.Error("keys were written where there is no room")
		}
		if err := Apply(root, Spec{AuthorizedKey: mine}); err == nil {
			t.Error("host keys were written where there is no room")
		}
	})
	if got := read(t, root, keys); got != was {
		t.Errorf("authorized_keys:\n%s\nwant:\n%s", got, was)
	}
	if err := Apply(root, Spec{AuthorizedKey: mine}); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"ed25519", "ecdsa"} {
		if _, err := ssh.ParsePrivateKey([]byte(read(t, root, hostKeys+kind+"_key"))); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	for _, dir := range []string{"rootfs/root/.ssh", "rootfs/etc/ssh"} {
		left, err := fs.Glob(root.FS(), dir+"/.*")
		if err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}

// full runs f while no file of this process can hold more than a few bytes, as on a full disk.
func full(t *testing.T, f func()) {
	t.Helper()
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 8, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
			t.Fatal(err)
		}
	}()
	f()
}

func TestSyncCarriesHostKeysAndMachineID(t *testing.T) {
	displaced := dataset(t, map[string]string{
		"rootfs/etc/ssh/ssh_host_rsa_key":     "copy's private",
		"rootfs/etc/ssh/ssh_host_rsa_key.pub": "copy's public",
		"rootfs/etc/machine-id":               "cccccccccccccccccccccccccccccccc\n",
	})
	kept, err := Keep(displaced)
	if err != nil {
		t.Fatal(err)
	}
	root := dataset(t, map[string]string{
		"rootfs/etc/ssh/ssh_host_rsa_key":     "source's private",
		"rootfs/etc/ssh/ssh_host_ed25519_key": "source's private",
		"rootfs/etc/machine-id":               "5555555555555555555555555555555e\n",
	})
	if err := Apply(root, Spec{Carried: kept}); err != nil {
		t.Fatal(err)
	}
	if got := read(t, root, "rootfs/etc/ssh/ssh_host_rsa_key"); got != "copy's private" {
		t.Errorf("rsa key %q", got)
	}
	if _, err := root.Stat("rootfs/etc/ssh/ssh_host_ed25519_key"); !os.IsNotExist(err) {
		t.Errorf("the source's ed25519 key is still there: %v", err)
	}
	if got := read(t, root, "rootfs/etc/machine-id"); got != "cccccccccccccccccccccccccccccccc\n" {
		t.Errorf("machine id %q", got)
	}
}

func TestHostileTreesAreRefusedAndWriteNothingOutside(t *testing.T) {
	outside := t.TempDir()
	victim := filepath.Join(outside, "victim")
	if err := os.WriteFile(victim, []byte("untouched"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, files := range map[string]map[string]string{
		"backup.yaml is a link":       {"backup.yaml": "-> " + victim},
		"metadata.yaml is a link":     {"metadata.yaml": "-> " + victim},
		"a template is a link":        {"templates/hostname.tpl": "-> " + victim},
		"templates is a link":         {"templates": "-> " + outside},
		"/root is a link":             {"rootfs/root": "-> " + outside},
		"/root/.ssh is a link":        {"rootfs/root/.ssh": "-> " + outside},
		"/etc is a link":              {"rootfs/etc": "-> " + outside},
		"/etc/ssh is a relative link": {"rootfs/etc/ssh": "-> ../../../../../../../../../../" + outside},
	} {
		t.Run(name, func(t *testing.T) {
			root := dataset(t, files)
			err := Apply(root, Spec{AuthorizedKey: userKey(t, "k"), Hostname: "h", Carried: &Kept{MachineID: "1", HostKeys: []HostKey{{Name: "ssh_host_rsa_key"}}}})
			if !errors.Is(err, errdefs.ErrUnsupported) {
				t.Errorf("err %v, want ErrUnsupported", err)
			}
			entries, _ := os.ReadDir(outside)
			if content, _ := os.ReadFile(victim); len(entries) != 1 || string(content) != "untouched" {
				t.Errorf("outside: %v, victim %q", entries, content)
			}
		})
	}
}

func TestLinksInPlaceOfFilesAreReplacedNotFollowed(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(outside, []byte("untouched"), 0o644); err != nil {
		t.Fatal(err)
	}
	root := dataset(t, map[string]string{
		"rootfs/root/.ssh/authorized_keys": "-> " + outside,
		"rootfs/etc/machine-id":            "-> " + outside,
	})
	mine := userKey(t, "mine")
	if err := Apply(root, Spec{AuthorizedKey: mine, Carried: &Kept{MachineID: "cc"}}); err != nil {
		t.Fatal(err)
	}
	if content, _ := os.ReadFile(outside); string(content) != "untouched" {
		t.Errorf("victim %q", content)
	}
	if got := read(t, root, "rootfs/etc/machine-id"); got != "cc\n" {
		t.Errorf("machine id %q", got)
	}
}

func TestFingerprintIgnoresComments(t *testing.T) {
	key := userKey(t, "one comment")
	fields := strings.Fields(key)
	first, err := Fingerprint(key)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Fingerprint(fields[0] + " " + fields[1] + " another")
	if err != nil || first != second {
		t.Errorf("%q, %q, err %v", first, second, err)
	}
	if _, err := Fingerprint("ssh-rsa nonsense"); err == nil {
		t.Error("nonsense has a fingerprint")
	}
	if _, err := Fingerprint(key + "\n" + key); err == nil {
		t.Error("two lines have a fingerprint")
	}
}

func TestWhatIsReadOfATreeIsBounded(t *testing.T) {
	many := make(map[string]string)
	for i := range maxHostKeys + 1 {
		many[fmt.Sprintf("rootfs/etc/ssh/ssh_host_%d_key", i)] = "private"
	}
	crowd := make(map[string]string)
	for i := range maxNames + 1 {
		crowd[fmt.Sprint("rootfs/etc/ssh/", i)] = ""
	}
	templates := make(map[string]string)
	for i := range maxNames + 1 {
		templates[fmt.Sprint("templates/", i)] = ""
	}
	for name, files := range map[string]map[string]string{
		"many host keys": many,
		"many files":     crowd,
		"many templates": templates,
		"a large key":    {"rootfs/etc/ssh/ssh_host_rsa_key": strings.Repeat("x", maxFile+1)},
	} {
		if _, err := Keep(dataset(t, files)); !errors.Is(err, errdefs.ErrUnsupported) {
			t.Errorf("%s: %v, want ErrUnsupported", name, err)
		}
	}
}

// A running container may put anything in a file's place while it is opened, such as a pipe that nobody writes to.
func TestOpeningNeverWaits(t *testing.T) {
	root := dataset(t, nil)
	if err := syscall.Mkfifo(filepath.Join(root.Name(), "rootfs", "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	tree, err := openTree(root)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.root.Close()
	file, err := tree.open("pipe", 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	if content, _, ok, err := tree.read("pipe"); ok || err != nil {
		t.Errorf("read %q, %v", content, err)
	}
}
