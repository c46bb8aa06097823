// Package userpage has the commands of the public page about copy and sync, as they stand there, and runs them. Only the host
// and the ids are put in; what the page writes as a request without curl is sent with curl. The page's two scripts in
// JavaScript, and the one for a team, are here in shell: nightly, conditional and team.
package userpage

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
)

//go:embed scripts
var scripts embed.FS

// Tools are the programs that the commands are run with.
var Tools = []string{"bash", "curl", "jq"}

// Fleet is where the commands are run.
type Fleet struct {
	API   string // such as "http://127.0.0.1:6470"
	Token string
	// Settled waits until no operation works on the container any more, and fails unless it runs then. The page's weeks pass meanwhile.
	Settled func(ctx context.Context, containerID string) error
}

// Story is one example of the page.
type Story struct {
	Script string // its name in scripts, without .sh
	// Results names what the answers of its steps bring, for the placeholders of later ones: of a copy the new container's id, of
	// a snapshot its name, of a sync nothing.
	Results []string
}

// Copies are the ids of the containers that the story has made.
func (s Story) Copies(ids map[string]string) []string {
	var copies []string
	for _, name := range s.Results {
		if strings.HasSuffix(name, "_id") {
			copies = append(copies, ids[name])
		}
	}
	return copies
}

// Stories are the page's examples, in its order.
var Stories = []Story{
	{"scenario1", []string{"staging_copy_id", "", ""}},
	{"scenario2", []string{"alice_copy_id", "", "bob_copy_id"}},
	{"scenario3", []string{"prod_eu_id", ""}},
	{"scenario4", []string{"feature_copy_id", "", "new_prod_id"}},
	{"pattern1", []string{"staging_id", "", "alice_dev_id", ""}},
	{"pattern2", []string{"prod_eu_id", "prod_asia_id", "", ""}},
	{"pattern3", []string{"snapshot", "prod_v2_id"}},
	{"before-sync", []string{"", "", ""}},
}

// Cast gives the page's placeholders for projects, servers and sources their ids: one project, one source, and the servers
// that the page has in Europe and Asia.
func Cast(projectID, sourceID, europeID, asiaID string) map[string]string {
	ids := map[string]string{"eu_server_id": europeID, "eu_server": europeID, "asia_server": asiaID}
	for _, name := range []string{
		"project", "same_project", "staging_project", "alice_project", "bob_project", "dev_project", "prod_project", "production_project",
	} {
		ids[name] = projectID
	}
	for _, name := range []string{"prod_id", "prod_us_id", "template_id", "test_id"} {
		ids[name] = sourceID
	}
	return ids
}

var placeholder = regexp.MustCompile(`\{([a-z_]+)\}`)

// Tell runs a story's steps one after the other and requires that each is answered as the page says. It adds the story's
// results to ids.
func (f Fleet) Tell(ctx context.Context, story Story, ids map[string]string) error {
	script, err := scripts.ReadFile("scripts/" + story.Script + ".sh")
	if err != nil {
		return err
	}
	var steps []string
	for block := range strings.SplitSeq(string(script), "\n\n") {
		if command := asCommand(block); command != "" {
			steps = append(steps, command)
		}
	}
	if len(steps) != len(story.Results) {
		return fmt.Errorf("%s has %d steps, not %d", story.Script, len(steps), len(story.Results))
	}
	for i, step := range steps {
		if err := f.step(ctx, step, story.Results[i], ids); err != nil {
			return fmt.Errorf("%s, step %d: %w", story.Script, i+1, err)
		}
	}
	return nil
}

// asCommand is a block of the page without its comments; a request in the page's short form becomes a curl.
func asCommand(block string) string {
	var lines []string
	for line := range strings.Lines(block) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	command := strings.TrimSpace(strings.Join(lines, ""))
	method, rest, _ := strings.Cut(command, " ")
	if method != strings.ToUpper(method) || method == "" {
		return command
	}
	path, body, _ := strings.Cut(rest, "\n")
	command = fmt.Sprintf(`curl -X %s "https://api.hoody.icu%s" -H "Authorization: Bearer $HOODY_TOKEN"`, method, path)
	if body != "" {
		command += ` -H "Content-Type: application/json" -d '` + body + `'`
	}
	return command
}

func (f Fleet) step(ctx context.Context, command, result string, ids map[string]string) error {
	output, err := f.run(ctx, command, ids)
	if err != nil {
		return err
	}
	var answer struct {
		StatusCode int
		Message    string
		Data       struct {
			ID          string
			ContainerID string `json:"container_id"`
			Snapshot    struct{ Name string }
		}
	}
	if err := json.Unmarshal([]byte(output), &answer); err != nil {
		return fmt.Errorf("%w in the answer %q", err, output)
	}
	if answer.StatusCode != 200 && answer.StatusCode != 201 {
		return fmt.Errorf("answered %s", output)
	}
	container := answer.Data.ContainerID
	switch {
	case answer.Data.Snapshot.Name != "":
		if result != "" {
			ids[result] = answer.Data.Snapshot.Name
		}
	case answer.Data.ID != "":
		container = answer.Data.ID
		ids[result] = container
	}
	if container == "" {
		return nil // answered when it was done
	}
	return f.Settled(ctx, container)
}

// Run runs one of the scripts nightly, team and conditional and returns what it says.
func (f Fleet) Run(ctx context.Context, name string, ids map[string]string) (string, error) {
	script, err := scripts.ReadFile("scripts/" + name + ".sh")
	if err != nil {
		return "", err
	}
	return f.run(ctx, string(script), ids)
}

// run puts host and ids in and runs the commands.
func (f Fleet) run(ctx context.Context, commands string, ids map[string]string) (string, error) {
	var unknown []string
	commands = placeholder.ReplaceAllStringFunc(commands, func(found string) string {
		id, ok := ids[found[1:len(found)-1]]
		if !ok {
			unknown = append(unknown, found)
		}
		return id
	})
	if len(unknown) > 0 {
		return "", fmt.Errorf("nothing is known for %v", unknown)
	}
	commands = strings.ReplaceAll(commands, "https://api.hoody.icu", f.API)
	// A server that cannot act for the moment says when to come back (503); what was accepted then counts once.
	shell := exec.CommandContext(ctx, "bash", "-euc", `curl() { command curl --silent --show-error --retry 6 --header "Idempotency-Key: $RANDOM$RANDOM$RANDOM$RANDOM" "$@"; }; `+commands)
	shell.Env = append(os.Environ(), "HOODY_TOKEN="+f.Token)
	output, err := shell.Output()
	if err != nil {
		return "", fmt.Errorf("%w after %q of\n%s", err, output, commands)
	}
	return string(output), nil
}
