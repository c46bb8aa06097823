package api

import (
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// rules collects what is wrong with a body by rules that the document can only describe in words.
type rules struct {
	issues []contract.Issue
}

// refuse notes that a field asks for what is not done here.
func (r *rules) refuse(asked bool, path, why string) {
	if asked {
		r.issues = append(r.issues, contract.Issue{InstancePath: path, Message: why})
	}
}

func (r *rules) refuseVirtualization(kvm, devKVM *bool) {
	const why = "virtual machines are not offered here"
	r.refuse(value(kvm), "/kvm", why)
	r.refuse(value(devKVM), "/dev_kvm", why)
}

// checkEnvironment checks environment variables; OpenAPI 3.0 cannot say what names look like, nor what values need with which name.
func (r *rules) checkEnvironment(path string, environment map[string]string) {
	for _, name := range sortedKeys(environment) {
		at := path + pointer(name)
		r.checkVariableName(at, name)
		r.checkVariableValue(at, name, environment[name])
	}
}

// reservedPrefix is what names of variables must not start with on the environment's own routes.
const reservedPrefix = "HOODY_"

func reserved(name string) bool { return strings.HasPrefix(name, reservedPrefix) }

func reservedVariable(at ...string) error {
	var broken rules
	for _, path := range at {
		broken.refuse(true, path, "names that start with "+reservedPrefix+" are reserved")
	}
	return broken.as(errdefs.ErrInvalid, "RESERVED_ENV_PREFIX", "Validation failed")
}

// checkVariables checks what is to be set on the environment's own routes, where the contract has codes for it.
func checkVariables(environment map[string]string) error {
	var names, values rules
	var taken []string
	for _, name := range sortedKeys(environment) {
		at := pointer(name)
		names.checkVariableName(at, name)
		values.checkVariableValue(at, name, environment[name])
		if reserved(name) {
			taken = append(taken, at)
		}
	}
	if err := names.as(errdefs.ErrInvalid, "INVALID_ENV_KEY", "Validation failed"); err != nil {
		return err
	}
	if len(taken) > 0 {
		return reservedVariable(taken...)
	}
	return values.asInvalid()
}

// checkVariable checks one whose name is in the path.
func checkVariable(name, value string) error {
	var names, values rules
	names.checkVariableName("/key", name)
	if err := names.as(errdefs.ErrInvalid, "INVALID_ENV_KEY", "Validation failed"); err != nil {
		return err
	}
	values.checkVariableValue("/value", name, value)
	return values.asInvalid()
}

func (r *rules) checkVariableName(at, name string) {
	r.refuse(len(name) > 128, at, "the name must NOT have more than 128 characters")
	r.refuse(!variableName(name), at, "the name must consist of letters, digits and underscores and not start with a digit")
	rule := agent.VariableNameRule(name)
	r.refuse(rule != "", at, rule)
}

func (r *rules) checkVariableValue(at, name, value string) {
	rule := agent.VariableValueRule(name, value)
	r.refuse(rule != "", at, rule)
}

func variableName(name string) bool {
	for i, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
		digit := c >= '0' && c <= '9'
		if !letter && (!digit || i == 0) {
			return false
		}
	}
	return name != ""
}

// checkPublicKey returns the key without the line break that files of keys end with; empty for none.
func (r *rules) checkPublicKey(path string, offered *string) string {
	if offered == nil {
		return ""
	}
	key := strings.TrimSpace(*offered)
	_, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(key))
	r.refuse(err != nil || len(options) > 0 || len(rest) > 0, path, "is not a valid OpenSSH public key")
	return key
}

// fingerprint is how ssh-keygen -l names a key; empty for none.
func fingerprint(publicKey string) string {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(publicKey))
	if err != nil {
		return ""
	}
	return ssh.FingerprintSHA256(key)
}

func (r *rules) asInvalid() error {
	return r.as(errdefs.ErrInvalid, "VALIDATION_ERROR", "Validation failed")
}

func (r *rules) asForbidden() error {
	return r.as(errdefs.ErrPermissionDenied, "INSUFFICIENT_PERMISSIONS", "Insufficient permissions")
}

func (r *rules) asUnsupported(message string) error {
	return r.as(errdefs.ErrUnsupported, "VALIDATION_ERROR", message)
}

func (r *rules) as(class error, code, message string) error {
	if len(r.issues) == 0 {
		return nil
	}
	return errdefs.New(class, code, "%s", message).WithData(r.issues[:min(len(r.issues), maxIssues)])
}
