package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestDocumentationHasAPageForEveryCommand(t *testing.T) {
	dir := t.TempDir()
	p := newProgram()
	if code := p.execute([]string{"documentation", dir}); code != exitOK {
		t.Fatalf("exit code %d", code)
	}
	for _, command := range p.rootCommand().Commands() {
		if command.Hidden {
			continue
		}
		page, err := os.ReadFile(filepath.Join(dir, "man", "hoody-agent-"+command.Name()+".8"))
		if err != nil {
			t.Errorf("command %s: %v", command.Name(), err)
		} else if !strings.Contains(string(page), command.Short) {
			t.Errorf("the page of %s does not say what it does", command.Name())
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		script, err := os.ReadFile(filepath.Join(dir, "completion", shell))
		if err != nil || !strings.Contains(string(script), "hoody-agent") {
			t.Errorf("completion for %s: %v, %d bytes", shell, err, len(script))
		}
	}
}

// The package has the pages as they lie in the repository: what they link to has to be there, and to be shipped.
func TestLinksOfThePages(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	links := 0
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range link.FindAllStringSubmatch(string(text), -1) {
			links++
			target := filepath.Join(filepath.Dir(page), match[1])
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", page, match[1], err)
			}
			if !regexp.MustCompile(`^../../(README.md|docs/[^/]*\.md|configs/.*|api/openapi.yaml)$`).MatchString(target) {
				t.Errorf("%s links to %s, which the package has not", page, match[1])
			}
		}
	}
	if links < 5 {
		t.Errorf("%d links; the test looks in the wrong place", links)
	}
}
