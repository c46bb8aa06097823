package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/hoodynetwork/hoody-agent/internal/pki"
)

// pkiFlags are shared by the commands below; each registers those it takes.
type pkiFlags struct {
	ca, out   string
	server    string
	names     []string
	fleet     string
	lifetime  time.Duration
	overwrite bool
}

func (p *program) pkiCommand() *cobra.Command {
	cmd := group("pki", "The fleet's certificates",
		p.pkiInitCommand(), p.pkiIssueCommand(), p.pkiRenewCommand())
	cmd.Long = "Make the fleet's authority, once, and issue each agent its certificate.\n\n" +
		"The authority's directory (ca.crt, ca.key) belongs on a machine of its own, or into a vault: whoever holds\n" +
		"ca.key can join the fleet. An agent needs ca.crt and its agent.pem, in the directory that peer.credentials names."
	return cmd
}

func (p *program) pkiInitCommand() *cobra.Command {
	var f pkiFlags
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the authority of a new fleet",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			if _, err := pki.Init(f.ca, f.fleet, f.overwrite); err != nil {
				return err
			}
			return p.say("made %s/%s; keep %s/%s where nobody else gets at it\n", f.ca, pki.CAFile, f.ca, pki.CAKeyFile)
		},
	}
	f.authority(cmd)
	cmd.Flags().StringVar(&f.fleet, "name", "hoody fleet", "the authority's `name`, for people")
	cmd.Flags().BoolVar(&f.overwrite, "overwrite", false, "replace an authority, which cuts off all agents it signed")
	return cmd
}

func (p *program) pkiIssueCommand() *cobra.Command {
	var f pkiFlags
	cmd := &cobra.Command{
		Use:   "issue",
		Short: "Issue an agent's key and certificate",
		Long: "Issue a key and certificate for the server of that id (`hoody-agent id` prints it there) and write them, with\n" +
			"the authority's certificate, into a directory to be taken to that server.",
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			if err := f.completeServer(p); err != nil {
				return err
			}
			if err := f.complete(p); err != nil {
				return err
			}
			request := pki.Request{ServerID: f.server, Names: f.names, Lifetime: f.lifetime}
			if err := pki.Issue(f.ca, f.out, request, f.overwrite); err != nil {
				return err
			}
			return p.say("issued %s/%s for server %s\n", f.out, pki.AgentFile, f.server)
		},
	}
	f.authority(cmd)
	f.agent(cmd)
	cmd.Flags().StringVar(&f.server, "server", "", "the server's `id`; without, this server's")
	cmd.Flags().StringSliceVar(&f.names, "name", nil,
		"DNS `name` or address to stand in it, may be repeated; what clients of its API reach the agent by, if that shows this certificate, and others its embedded store")
	cmd.Flags().BoolVar(&f.overwrite, "overwrite", false, "replace a certificate that is there")
	return cmd
}

func (p *program) pkiRenewCommand() *cobra.Command {
	var f pkiFlags
	cmd := &cobra.Command{
		Use:   "renew",
		Short: "Renew an agent's certificate; a running agent picks it up by itself",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			if err := f.complete(p); err != nil {
				return err
			}
			if err := pki.Renew(f.ca, f.out, f.lifetime); err != nil {
				return err
			}
			return p.say("renewed %s/%s\n", f.out, pki.AgentFile)
		},
	}
	f.authority(cmd)
	f.agent(cmd)
	return cmd
}

func (f *pkiFlags) authority(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.ca, "ca", "/etc/hoody-agent/ca", "`directory` of the authority")
}

func (f *pkiFlags) agent(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.out, "out", "", "`directory` of the agent's credentials; without, peer.credentials")
	cmd.Flags().DurationVar(&f.lifetime, "lifetime", 0, "how long it is valid; 0 for the usual time")
}

// complete fills in what this server's configuration knows.
func (f *pkiFlags) complete(p *program) error {
	if f.lifetime < 0 {
		return usageError(errors.New("--lifetime must not be negative"))
	}
	if f.out == "" {
		cfg, err := p.loadConfig()
		if err != nil {
			return err
		}
		f.out = cfg.Peer.Credentials
	}
	return nil
}

// completeServer defaults to this server. Another server's certificate has no business in this one's directory, where
// it would take the place of its own: for those, the caller says where to.
func (f *pkiFlags) completeServer(p *program) (err error) {
	if f.server != "" {
		if f.out == "" {
			return usageError(errors.New("--server needs --out: the directory to take to that server"))
		}
		return nil
	}
	f.server, err = p.serverID()
	return err
}
