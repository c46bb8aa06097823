package demo

import (
	"context"
	"net/http"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
	"github.com/hoodynetwork/hoody-agent/internal/client"
)

// little is more than a container's identity needs and far less than its data.
const little = 1 << 20

// copyHere: copy-on-write on one server. No data moves, and the source does not notice.
func (s *story) copyHere(ctx context.Context) (err error) {
	boots := s.here.Host.Boots(s.source.ID)
	before, err := s.here.Host.Used(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	var created client.Created
	code, err := status(s.here, func(api *client.Client) (err error) {
		created, err = api.Copy(ctx, s.source.ID, map[string]any{"target_project_id": s.project.ID, "name": "web-copy"})
		return err
	})
	if err != nil {
		return err
	}
	s.fact(code == http.StatusCreated && created.Status == "copying", "POST /containers/{id}/copy answers %d, status %s", code, created.Status)
	if s.local, err = s.await(ctx, s.here, created, began); err != nil {
		return err
	}
	s.fact(s.local.Status == contract.ContainerStatusRunning, "%s later it is %s", span(s.local.took), s.local.Status)
	if err := s.same(ctx, s.source.box, s.local.box, "source and copy hold the same files, apart from identity"); err != nil {
		return err
	}
	after, err := s.here.Host.Used(ctx)
	if err != nil {
		return err
	}
	s.fact(s.local.moved == 0 && after-before < little, "%s moved; the pool holds %s more, for a copy of %s",
		size(s.local.moved), size(after-before), size(s.data))
	if err := s.checkCopy(ctx, s.local); err != nil {
		return err
	}
	source, err := s.here.API.Container(ctx, s.source.ID)
	if err != nil {
		return err
	}
	s.fact(source.Status == "running" && s.here.Host.Boots(s.source.ID) == boots, "the source ran on all the time")
	return nil
}

// checkCopy: what a copy takes over from its source, and what is its own.
func (s *story) checkCopy(ctx context.Context, copied made) error {
	listed, err := copied.server.API.Snapshots(ctx, copied.ID)
	if err != nil {
		return err
	}
	s.fact(s.both(listed), "it lists both of the source's snapshots")
	s.fact(copied.SourceContainerID != nil && *copied.SourceContainerID == s.source.ID && copied.EnvironmentVars["STAGE"] == "production",
		"source_container_id names its source; its environment came along")
	if err := s.checkKey(ctx, copied); err != nil {
		return err
	}
	mine, err := identityOf(ctx, copied.box)
	if err != nil {
		return err
	}
	theirs, err := identityOf(ctx, s.source.box)
	if err != nil {
		return err
	}
	own := mine.hostname == copied.Name
	for _, pair := range [][2]string{{mine.machine, theirs.machine}, {mine.hostKey, theirs.hostKey}} {
		own = own && pair[0] != "" && pair[0] != pair[1]
	}
	s.fact(own, "host name (%s), machine id and SSH host keys are its own", mine.hostname)
	return nil
}

// checkKey: a copy lets its own SSH key in and not its source's, and its private key is handed out once.
func (s *story) checkKey(ctx context.Context, copied made) error {
	keys, err := copied.read(ctx, "root/.ssh/authorized_keys")
	if err != nil {
		return err
	}
	own, theirs := keyOf(copied.Container), keyOf(s.source.Container)
	s.fact(own != "" && own != theirs && strings.Contains(keys, own) && !strings.Contains(keys, theirs), "it has an SSH key of its own, and the source's is not let in")
	signer, err := ssh.ParsePrivateKey([]byte(copied.privateKey))
	if err != nil {
		return err
	}
	var shown map[string]any
	if err := copied.server.API.Do(ctx, http.MethodGet, "/api/v1/containers/"+copied.ID, nil, &shown); err != nil {
		return err
	}
	again, _ := shown["ssh_private_key"].(string)
	fits := strings.HasPrefix(own, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))))
	s.fact(fits && again == "", "the private key to it was in the answer to the copy, and is never shown again")
	return nil
}

// keyOf is a container's public SSH key, "" for none.
func keyOf(container contract.Container) string {
	if container.SSHPublicKey == nil {
		return ""
	}
	return *container.SSHPublicKey
}

// identity is what tells a container from its copies, to itself.
type identity struct{ hostname, machine, hostKey string }

func identityOf(ctx context.Context, b box) (found identity, err error) {
	for name, into := range map[string]*string{
		"etc/hostname": &found.hostname, "etc/machine-id": &found.machine, "etc/ssh/ssh_host_ed25519_key.pub": &found.hostKey,
	} {
		if *into, err = b.read(ctx, name); err != nil {
			return found, err
		}
	}
	return found, nil
}
