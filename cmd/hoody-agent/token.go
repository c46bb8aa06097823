package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/hoodynetwork/hoody-agent/internal/auth"
)

// tokenFlags are those of `hoody-agent token`.
type tokenFlags struct {
	key, keyID string
	user       string
	operator   bool
	expires    time.Duration
}

func (p *program) tokenCommand() *cobra.Command {
	var f tokenFlags
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make an API token, for trying out",
		Long: "Make a token for the API of an agent with this configuration and print it. In service, tokens come from\n" +
			"whoever signs users in; an agent that is given their public key only cannot make any, and this command says so.",
		Example: "  curl -H \"Authorization: Bearer $(hoody-agent token --user 64c1aa00b2d34e5f60718201)\" http://127.0.0.1:6470/api/v1/servers",
		Args:    noArguments,
		RunE: func(*cobra.Command, []string) error {
			token, err := p.signToken(f)
			if err != nil {
				return err
			}
			return p.say("%s\n", token)
		},
	}
	cmd.Flags().StringVar(&f.user, "user", "", "the user's `id`, 24 hex digits")
	cmd.Flags().BoolVar(&f.operator, "operator", false, "for the control plane, which may act on everybody's projects")
	cmd.Flags().DurationVar(&f.expires, "expires", time.Hour, "how long it is valid")
	cmd.Flags().StringVar(&f.key, "key", "", "private key or secret `file`; without, the configured one")
	cmd.Flags().StringVar(&f.keyID, "key-id", "", "the key's `id` in a key set")
	cmd.AddCommand(p.keygenCommand())
	return cmd
}

func (p *program) keygenCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "keygen",
		Short: "Make an Ed25519 key pair for tokens",
		Long: "Make a key pair for tokens: " + privateKeyName + " for whoever signs them, " + publicKeyName +
			" for the auth.key_file of agents.\nA pair that is there already is kept.",
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			if dir == "" {
				return usageError(errors.New("--dir is needed"))
			}
			if _, err := ensureTokenKeys(dir); err != nil {
				return err
			}
			return p.say("%s\n", filepath.Join(dir, publicKeyName))
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "`directory` to make them in")
	return cmd
}

func (p *program) signToken(f tokenFlags) (string, error) {
	if f.user == "" {
		return "", usageError(errors.New("--user is needed"))
	}
	cfg, err := p.loadConfig()
	if err != nil {
		return "", err
	}
	path := f.key
	switch {
	case path != "":
	case cfg.Auth.JWKSFile != "":
		return "", errors.New("make a token: auth.jwks_file holds keys to check tokens with; name the private key with --key")
	case cfg.Auth.KeyFile != "":
		path = cfg.Auth.KeyFile
	default:
		keys, err := ensureTokenKeys(tokenKeyDir(cfg.StateDir))
		if err != nil {
			return "", err
		}
		path = keys.private
	}
	key, err := auth.LoadSigningKey(auth.Algorithm(cfg.Auth.Algorithm), path, f.keyID)
	if err != nil {
		if path == cfg.Auth.KeyFile && !errors.Is(err, os.ErrNotExist) {
			return "", errors.New("make a token: auth.key_file holds no private key, so this agent can only check tokens; name the private key with --key")
		}
		return "", fmt.Errorf("make a token: %w", err)
	}
	return auth.Sign(key, auth.Token{
		UserID: f.user, Operator: f.operator, Issuer: cfg.Auth.Issuer, Audience: cfg.Auth.Audience,
		IssuedAt: time.Now(), Lifetime: f.expires,
	})
}
