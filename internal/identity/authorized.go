package identity

import (
	"bytes"
	"strings"

	"golang.org/x/crypto/ssh"
)

const authorizedKeys = "root/.ssh/authorized_keys"

// setAuthorizedKey removes the lines of other containers' keys and adds the container's own as the last line.
// Lines that cannot be read as keys, comments and options included, are the user's and stay as they are.
func (t tree) setAuthorizedKey(key string, others []string) error {
	content, mode, exists, err := t.read(authorizedKeys)
	if err != nil {
		return err
	}
	unwanted := make(map[string]bool)
	for _, other := range append(others, key) {
		if id := keyIdentity(other); id != "" {
			unwanted[id] = true
		}
	}
	var kept bytes.Buffer
	for line := range bytes.Lines(content) {
		if id := keyIdentity(string(line)); id != "" && unwanted[id] {
			continue
		}
		kept.Write(line)
	}
	if key != "" {
		if kept.Len() > 0 && !bytes.HasSuffix(kept.Bytes(), []byte("\n")) {
			kept.WriteByte('\n')
		}
		kept.WriteString(strings.TrimSpace(key) + "\n")
	}
	if bytes.Equal(kept.Bytes(), content) {
		return nil
	}
	if !exists {
		mode = 0o600
		if err := t.makeDirectory("root", 0o700); err != nil {
			return err
		}
		if err := t.makeDirectory("root/.ssh", 0o700); err != nil {
			return err
		}
	}
	return t.replace(authorizedKeys, kept.Bytes(), mode)
}

// keyIdentity is a key without comment and options: what makes two authorized_keys lines the same key. Empty for no key.
func keyIdentity(line string) string {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return ""
	}
	return string(key.Marshal())
}
