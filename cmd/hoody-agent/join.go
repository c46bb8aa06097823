package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/hoodynetwork/hoody-agent/internal/config"
	"github.com/hoodynetwork/hoody-agent/internal/doctor"
	"github.com/hoodynetwork/hoody-agent/internal/pki"
)

// joinFlags are those of `hoody-agent join`.
type joinFlags struct {
	store    []string
	address  string
	tokenKey string
}

const (
	apiPort  = "6470"
	peerPort = "6471"
)

func (p *program) joinCommand() *cobra.Command {
	var f joinFlags
	cmd := &cobra.Command{
		Use:   "join",
		Short: "Make this host one of a fleet",
		Long: "Make this host one of a fleet: check its certificate and the key for tokens, try the fleet's store with them, and only\n" +
			"then write the configuration. A configuration with settings of its own is left alone; what is to be put into it is\n" +
			"printed. Nothing is started.\n\n" +
			"Before: `hoody-agent id` here, `hoody-agent pki issue` with that id and the address as --name where the authority is, and ca.crt and agent.pem into\n" +
			"peer.credentials here. After: systemctl enable hoody-agent, systemctl restart hoody-agent, hoody-agent doctor.\n\n" +
			"Exit codes: 0 joined, 1 not, and nothing is changed, 2 wrong usage, 78 the configuration is not valid.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(f.store) == 0 || f.address == "" {
				return usageError(errors.New("--store and --address are needed"))
			}
			if net.ParseIP(f.address).IsUnspecified() || strings.Contains(f.address, "/") || strings.Contains(f.address, ":") && net.ParseIP(f.address) == nil {
				return usageError(fmt.Errorf("--address must be an address or name, without a port, that the other hosts can reach, is %q", f.address))
			}
			return p.join(cmd.Context(), f)
		},
	}
	cmd.Flags().StringSliceVar(&f.store, "store", nil, "`URL` of the fleet's store, such as https://192.0.2.1:2379; may be repeated")
	cmd.Flags().StringVar(&f.address, "address", "", "`address` under which the other hosts reach this one")
	cmd.Flags().StringVar(&f.tokenKey, "token-key", "/etc/hoody-agent/auth.pub", "`file` with the public key that the fleet checks tokens with")
	return cmd
}

func (p *program) join(ctx context.Context, f joinFlags) error {
	known, err := p.loadConfig()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(known.StateDir, "etcd")); err == nil && known.EmbeddedStore() {
		return fmt.Errorf("this host has run alone: the records of its containers are in %s. Let its store be the fleet's; or, if it has no containers, "+
			"stop the agent, move that directory away, join, and run hoody-agent recover --apply", filepath.Join(known.StateDir, "etcd"))
	}
	id, err := p.serverID()
	if err != nil {
		return err
	}
	joined, block, err := f.configure(known)
	if err != nil {
		return err
	}
	load := func() (doctor.Certificate, error) { return readCertificate(joined.Peer.Credentials) }
	token := func() error { return checkTokenKey(joined) }
	reach := func(ctx context.Context) (time.Duration, int64, error) { return pingStore(ctx, joined) }
	findings := doctor.Examine(ctx, checkLimit,
		doctor.Certificates(load, id, nil, []string{f.address}, time.Now()), doctor.TokenKey(token), doctor.Store(strings.Join(f.store, ", "), reach))
	if troubled := slices.DeleteFunc(slices.Clone(findings), func(f doctor.Finding) bool { return f.Level == doctor.OK }); len(troubled) > 0 {
		printFindings(p.stderr, troubled)
	}
	if doctor.Failed(findings) {
		return errors.New("not joined, nothing is changed")
	}
	if err := p.writeJoined(block); err != nil {
		return err
	}
	return p.say("joined as %s: wrote %s\nnow: systemctl enable hoody-agent && systemctl restart hoody-agent, then hoody-agent doctor\n", id, p.configPath)
}

// configure returns the configuration with what makes a host one of the fleet, and that as text.
func (f joinFlags) configure(known config.Config) (config.Config, []byte, error) {
	agentFile := filepath.Join(known.Peer.Credentials, pki.AgentFile)
	joined := known
	joined.API.Listen = net.JoinHostPort(f.address, apiPort)
	joined.API.TLS = config.KeyPair{Cert: agentFile, Key: agentFile}
	joined.Auth.KeyFile = f.tokenKey
	joined.Peer.Listen = net.JoinHostPort(f.address, peerPort)
	joined.Store.Endpoints = f.store
	joined.Store.TLS = config.ClientTLS{CA: filepath.Join(known.Peer.Credentials, pki.CAFile), Cert: agentFile, Key: agentFile}
	if err := errors.Join(joined.Validate(), joined.CheckFiles()); err != nil {
		return joined, nil, fmt.Errorf("%w:\n%w", errConfig, err)
	}
	block, err := yaml.Marshal(yaml.MapSlice{
		{Key: "api", Value: yaml.MapSlice{{Key: "listen", Value: joined.API.Listen}, {Key: "tls", Value: joined.API.TLS}}},
		{Key: "auth", Value: yaml.MapSlice{{Key: "key_file", Value: joined.Auth.KeyFile}}},
		{Key: "peer", Value: yaml.MapSlice{{Key: "listen", Value: joined.Peer.Listen}, {Key: "credentials", Value: joined.Peer.Credentials}}},
		{Key: "store", Value: yaml.MapSlice{{Key: "endpoints", Value: joined.Store.Endpoints}, {Key: "tls", Value: joined.Store.TLS}}},
	})
	if err != nil {
		return joined, nil, fmt.Errorf("write configuration: %w", err)
	}
	return joined, block, nil
}

// writeJoined writes the configuration file; one that says nothing but defaults is kept beside it.
func (p *program) writeJoined(block []byte) error {
	text := append([]byte("# Written by hoody-agent join. hoody-agent config show prints every key, /usr/share/doc/hoody-agent/configs/hoody-agent.yaml explains them.\n"), block...)
	existing, err := config.Load(p.configPath, nil)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case len(config.Changed(config.Default(), existing)) > 0:
		return fmt.Errorf("all is well, but %s has settings of its own. Put these into it, then restart the agent:\n\n%s", p.configPath, block)
	default:
		if err := os.Rename(p.configPath, p.configPath+".before-join"); err != nil {
			return fmt.Errorf("keep the former configuration: %w", err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(p.configPath), 0o755); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	if err := writeNew(p.configPath, text, 0o644); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}
