package identity

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

const hostnameTemplate = "templates:\n  /etc/hostname: {when: [create, copy], template: hostname.tpl}\n"

// What the runtime writes from templates it writes as root of the host: a link in the tree must not lead it elsewhere.
func TestApplyRemovesLinksWhereTemplatesAreWritten(t *testing.T) {
	for name, c := range map[string]struct {
		metadata, link string
		gone           bool
	}{
		"of a copy":              {hostnameTemplate, "rootfs/etc/hostname", true},
		"of every start":         {"templates:\n  etc/hosts: {when: [start], template: hosts.tpl}\n", "rootfs/etc/hosts", true},
		"of the creation":        {"templates:\n  /etc/hosts: {when: [create], template: hosts.tpl}\n", "rootfs/etc/hosts", false},
		"not over what is there": {"templates:\n  /etc/hosts: {when: [copy], create_only: true, template: hosts.tpl}\n", "rootfs/etc/hosts", false},
		"for another file":       {hostnameTemplate, "rootfs/etc/hosts", false},
		"in other words, too": {"templates:\n  /etc/hosts: {when: [create], template: a}\n  etc//hosts: {when: [copy], create_only: true, template: b}\n" +
			"  /etc/./hosts: {when: [start], template: c}\n", "rootfs/etc/hosts", true},
	} {
		t.Run(name, func(t *testing.T) {
			root := dataset(t, map[string]string{"metadata.yaml": c.metadata, c.link: "-> /etc/passwd"})
			if err := Apply(root, Spec{}); err != nil {
				t.Fatal(err)
			}
			if _, err := root.Lstat(c.link); errors.Is(err, fs.ErrNotExist) != c.gone || err != nil && !c.gone {
				t.Errorf("the link: %v, want it gone: %t", err, c.gone)
			}
		})
	}
}

// A link that stays in the tree is the owner's, and so is any where the runtime writes nothing: a restore is no first start.
func TestApplyLeavesHarmlessLinksOfTemplates(t *testing.T) {
	for name, c := range map[string]struct {
		link, to string
		kept     *Kept
	}{
		"within the tree":   {"rootfs/etc/hostname", "../srv/hostname", nil},
		"of a directory":    {"rootfs/etc", "srv", nil},
		"of a later start":  {"rootfs/etc/hostname", "/srv/hostname", &Kept{}},
		"a directory later": {"rootfs/etc", "/srv", &Kept{}},
	} {
		t.Run(name, func(t *testing.T) {
			root := dataset(t, map[string]string{"metadata.yaml": hostnameTemplate, "rootfs/srv/hostname": "mine\n", c.link: "-> " + c.to})
			templates, err := templatesOf(root)
			if err != nil {
				t.Fatal(err)
			}
			below, err := root.OpenRoot("rootfs")
			if err != nil {
				t.Fatal(err)
			}
			defer below.Close()
			if err := (tree{root: below}).clearTemplateTargets(templates, c.kept == nil); err != nil {
				t.Fatal(err)
			}
			if to, err := root.Readlink(c.link); err != nil || to != c.to {
				t.Errorf("the link leads to %q, %v", to, err)
			}
		})
	}
}

func TestApplyRefusesTemplatesThatLeadElsewhere(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"a path out of the tree":        {"metadata.yaml": "templates:\n  ../../etc/cron.d/x: {when: [start], template: x.tpl}\n"},
		"dots behind a slash":           {"metadata.yaml": "templates:\n  /a/../../../etc/cron.d/x: {when: [start], template: x.tpl}\n"},
		"no path":                       {"metadata.yaml": "templates:\n  /: {when: [start], template: x.tpl}\n"},
		"a template elsewhere":          {"metadata.yaml": "templates:\n  /etc/x: {when: [start], template: ../rootfs/x}\n"},
		"a link on the way":             {"metadata.yaml": hostnameTemplate, "rootfs/etc": "-> /etc"},
		"a directory where a file goes": {"metadata.yaml": hostnameTemplate, "rootfs/etc/hostname/x": ""},
		"no YAML":                       {"metadata.yaml": "templates: [1"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := Apply(dataset(t, files), Spec{}); !errors.Is(err, errdefs.ErrUnsupported) {
				t.Errorf("%v, want %v", err, errdefs.ErrUnsupported)
			}
		})
	}
}

// A side file with a second name below rootfs is one that the container can write.
func TestCheckRefusesSideFilesWithSeveralNames(t *testing.T) {
	for _, name := range []string{"backup.yaml", "metadata.yaml", "templates/hostname.tpl"} {
		root := dataset(t, map[string]string{name: ""})
		if err := Check(root); err != nil {
			t.Fatal(err)
		}
		if err := os.Link(filepath.Join(root.Name(), name), filepath.Join(root.Name(), "rootfs", "mine")); err != nil {
			t.Fatal(err)
		}
		if err := Check(root); !errors.Is(err, errdefs.ErrUnsupported) {
			t.Errorf("%s: %v, want %v", name, err, errdefs.ErrUnsupported)
		}
	}
}
