package identity

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
)

const (
	machineIDFile = "etc/machine-id"
	// Older systems keep a second copy for D-Bus; where it is a link to the first, the link does.
	dbusMachineIDFile = "var/lib/dbus/machine-id"
	hostnameFile      = "etc/hostname"
)

// machineID returns the tree's machine id, empty when it has none yet (machine-id(5): empty or "uninitialized").
func (t tree) machineID() (string, error) {
	content, _, ok, err := t.read(machineIDFile)
	if err != nil || !ok {
		return "", err
	}
	id := strings.TrimSpace(string(content))
	if id == "uninitialized" {
		return "", nil
	}
	return id, nil
}

// setMachineID carries the displaced generation's machine id, or makes a new one where the tree has one.
// A tree that has none stays so: its first boot makes it.
func (t tree) setMachineID(carried *Kept) error {
	id := ""
	if carried != nil {
		id = carried.MachineID
	}
	if id == "" {
		present, err := t.machineID()
		if err != nil || present == "" {
			return err
		}
		random := make([]byte, 16)
		if _, err := rand.Read(random); err != nil {
			return err
		}
		// machine-id(5): the id is a valid version 4 UUID without dashes.
		random[6] = random[6]&0x0f | 0x40
		random[8] = random[8]&0x3f | 0x80
		id = hex.EncodeToString(random)
	}
	if err := t.makeDirectory("etc", 0o755); err != nil {
		return err
	}
	if err := t.replace(machineIDFile, []byte(id+"\n"), 0o444); err != nil {
		return err
	}
	if _, _, ok, err := t.read(dbusMachineIDFile); err == nil && ok {
		return t.replace(dbusMachineIDFile, []byte(id+"\n"), 0o444)
	}
	return nil
}

// setHostname names the host where the tree keeps a name; without the file, the runtime's name is what the container sees.
func (t tree) setHostname(name string) error {
	if name == "" {
		return nil
	}
	if strings.ContainsAny(name, "\n\x00") {
		return fmt.Errorf("host name %q holds a line break", name)
	}
	content, mode, ok, err := t.read(hostnameFile)
	if err != nil || !ok || string(content) == name+"\n" {
		return err
	}
	return t.replace(hostnameFile, []byte(name+"\n"), mode)
}
