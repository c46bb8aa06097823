package main

import "testing"

func TestOneAgentPerStateDirectory(t *testing.T) {
	dir := t.TempDir()
	unlock, err := lockStateDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockStateDir(dir); err == nil {
		t.Error("a second agent got the directory")
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	unlock, err = lockStateDir(dir)
	if err != nil {
		t.Fatalf("after the first has ended: %v", err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
}
