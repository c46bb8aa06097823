package agent_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

func TestForeignDatasets(t *testing.T) {
	marked := map[string]string{"hoody:role": "generation"}
	const job = "0123456789abcdef0123456789abcdef"
	got := agent.ForeignDatasets(lineage.Inventory{Datasets: []lineage.Dataset{
		{Name: "containers/x"},
		{Name: "hoody"},
		{Name: "hoody/backup"},
		{Name: "hoody/generations/" + job},
		{Name: "hoody/generations/" + job + "-0001"},
		{Name: "hoody/generations/mine"},
		{Name: "hoody/generations/theirs", Properties: marked},
		{Name: "hoodyx/y"},
	}})
	if diff := cmp.Diff([]string{"hoody/backup", "hoody/generations/mine"}, got); diff != "" {
		t.Error(diff)
	}
}
