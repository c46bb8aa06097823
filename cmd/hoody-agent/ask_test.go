package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/hoodynetwork/hoody-agent/internal/admin"
	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/client"
	"github.com/hoodynetwork/hoody-agent/internal/digest"
	"github.com/hoodynetwork/hoody-agent/internal/doctor"
	"github.com/hoodynetwork/hoody-agent/internal/health"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// What an admin sees of a fleet in which something has been done, through the commands and the socket.
func TestAdminCommands(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	f, err := openFleet(t.Context(), fleetOptions{dir: t.TempDir(), servers: 2, log: zap.New(core)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.close(); err != nil {
			t.Error(err)
		}
	}()
	us, eu := f.servers[0], f.servers[1]
	project, err := us.api.CreateProject(t.Context(), "production")
	if err != nil {
		t.Fatal(err)
	}
	source, err := us.api.CreateContainer(t.Context(), project.ID, map[string]any{"server_id": us.id, "name": "web", "container_image": "busybox"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := us.api.Settle(t.Context(), source.ID); err != nil {
		t.Fatal(err)
	}
	clone, err := us.api.Copy(t.Context(), source.ID, map[string]any{"target_project_id": project.ID, "target_server_id": eu.id, "name": "web-eu"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := us.api.Settle(t.Context(), clone.ID); err != nil {
		t.Fatal(err)
	}

	checkLogs(t, f, logs.All(), clone)

	code, out, stderr := invoke(t, nil, "status", "--socket", eu.cfg.AdminSocket())
	if code != exitOK {
		t.Errorf("status: code %d, %s", code, stderr)
	}
	for _, want := range []string{"node-eu (" + eu.id + ")", "store       ok, revision ", "1 running", "node-us (" + us.id + "), alive, 1 containers", "health      ok"} {
		if !strings.Contains(out, want) {
			t.Errorf("status lacks %q:\n%s", want, out)
		}
	}
	var status admin.Status
	askJSON(t, &status, "status", "--socket", us.cfg.AdminSocket())
	if status.Server.ID != us.id || !status.Ready || status.Pool.Size == 0 || status.Containers["running"] != 1 {
		t.Errorf("status %+v", status)
	}
	var jobs []admin.Job
	askJSON(t, &jobs, "jobs", "--all", "--socket", eu.cfg.AdminSocket())
	if len(jobs) != 1 || jobs[0].Kind != "copy" || jobs[0].State != "done" || jobs[0].Container.Name != "web-eu" || jobs[0].Source.Name != "web" || jobs[0].From.Name != "node-us" {
		t.Errorf("jobs %+v", jobs)
	}
	if _, out, _ := invoke(t, nil, "jobs", "--socket", eu.cfg.AdminSocket()); out != "no jobs\n" {
		t.Errorf("open jobs: %s", out)
	}
	var containers []admin.Container
	askJSON(t, &containers, "containers", "--socket", eu.cfg.AdminSocket())
	if len(containers) != 1 || containers[0].Name != "web-eu" || containers[0].Source.Name != "web" || containers[0].Referenced == 0 || containers[0].Last.Kind != "copy" {
		t.Errorf("containers %+v", containers)
	}
	if _, out, _ := invoke(t, nil, "containers", "--socket", eu.cfg.AdminSocket()); !strings.Contains(out, "web-eu  production  running  web") {
		t.Errorf("containers:\n%s", out)
	}

	code, out, stderr = invoke(t, nil, "lineage", "web-eu", "--socket", eu.cfg.AdminSocket())
	if code != exitOK || !strings.Contains(out, "web  running on node-us\n└─ *web-eu  running, ") || !strings.Contains(out, "     on hoody/generations/") {
		t.Errorf("lineage: code %d, %s\n%s", code, stderr, out)
	}
	var eldest admin.Relative
	askJSON(t, &eldest, "lineage", source.ID, "--socket", us.cfg.AdminSocket())
	if !eldest.Asked || !eldest.Here || eldest.Shared+eldest.Unique == 0 || len(eldest.Copies) != 1 || eldest.Copies[0].Here || eldest.Copies[0].Base == 0 {
		t.Errorf("lineage %+v", eldest)
	}
	if code, _, stderr := invoke(t, nil, "lineage", "nobody", "--socket", us.cfg.AdminSocket()); code != exitFailed || !strings.Contains(stderr, `no container has the id or name "nobody"`) {
		t.Errorf("lineage of nobody: code %d, %s", code, stderr)
	}

	var found []agent.Finding
	if askJSON(t, &found, "findings", "--socket", eu.cfg.AdminSocket()); found == nil || len(found) != 0 {
		t.Errorf("findings %+v", found)
	}
	code, out, stderr = invoke(t, nil, "verify", "web-eu", "--socket", eu.cfg.AdminSocket())
	if code != exitOK || !strings.HasPrefix(out, "equal: ") || !strings.Contains(out, ", what the copy's files were made from\n") {
		t.Errorf("verify: code %d, %s\n%s", code, stderr, out)
	}
	var verified agent.Verification
	if askJSON(t, &verified, "verify", "web-eu", "--socket", eu.cfg.AdminSocket()); verified.Entries == 0 || verified.Bytes == 0 {
		t.Errorf("verify: %+v", verified)
	}
	if code, _, stderr := invoke(t, nil, "verify", "web", "--socket", us.cfg.AdminSocket()); code != exitFailed || !strings.Contains(stderr, "it is no copy") {
		t.Errorf("verify of what is no copy: code %d, %s", code, stderr)
	}

	if code, out, stderr := invoke(t, nil, "gc", "--socket", eu.cfg.AdminSocket()); code != exitOK || !strings.Contains(out, "nothing was removed; --apply removes") {
		t.Errorf("gc: code %d, %s%s", code, out, stderr)
	}
	if code, _, _ := invoke(t, nil, "gc", "--apply", "--dry-run", "--socket", eu.cfg.AdminSocket()); code != exitUsage {
		t.Errorf("gc --apply --dry-run: code %d", code)
	}

	meetings, err := admin.NewClient(us.cfg.AdminSocket()).Meet(t.Context())
	if err != nil || len(meetings) != 1 || meetings[0].Server.Name != "node-eu" || meetings[0].There != "" || meetings[0].Back != "" {
		t.Errorf("peers: %+v, %v", meetings, err)
	}

	// This is no host with Incus; the agent and its neighbours are well.
	code, out, _ = invoke(t, []string{"HOODY_INCUS_SOCKET=/nowhere", "HOODY_STATE_DIR=" + us.cfg.StateDir, "HOODY_STORE_ENDPOINTS=" + f.records.Endpoint(),
		"HOODY_PEER_LISTEN=127.0.0.1:6471", "HOODY_PEER_CREDENTIALS=/nowhere"}, "doctor", "-o", "json", "--socket", us.cfg.AdminSocket())
	var findings []doctor.Finding
	if err := json.Unmarshal([]byte(out), &findings); err != nil {
		t.Errorf("doctor: %v in %s", err, out)
	}
	levels := make(map[string]doctor.Level)
	for _, finding := range findings {
		levels[finding.Check] = finding.Level
	}
	for check, want := range map[string]doctor.Level{
		"config": doctor.Fail, "incus": doctor.Fail, "certificate": doctor.Fail, "etcd": doctor.OK, "agent": doctor.OK, "peers": doctor.OK, "token key": doctor.OK,
	} {
		if code != exitProblem || levels[check] != want {
			t.Errorf("doctor: code %d, %s is %q, want %q", code, check, levels[check], want)
		}
	}

	// A drained server takes no new containers, whoever is asked; a restart changes nothing about it.
	onEU := map[string]any{"target_project_id": project.ID, "target_server_id": eu.id}
	if code, out, stderr := invoke(t, nil, "drain", "--socket", eu.cfg.AdminSocket()); code != exitOK || out != "takes no new containers; 0 operations still run\n" {
		t.Errorf("drain: code %d, %q, %s", code, out, stderr)
	}
	if _, err := us.api.Copy(t.Context(), source.ID, onEU); client.StatusOf(err) != http.StatusServiceUnavailable {
		t.Errorf("a copy to a draining server: %v", err)
	}
	if err := eu.api.Sync(t.Context(), clone.ID); err != nil {
		t.Errorf("a sync on a draining server: %v", err)
	}
	if _, err := eu.api.Settle(t.Context(), clone.ID); err != nil {
		t.Error(err)
	}
	if err := eu.end(); err != nil {
		t.Error(err)
	}
	if meetings, err := admin.NewClient(us.cfg.AdminSocket()).Meet(t.Context()); err != nil || len(meetings) != 1 || meetings[0].There == "" {
		t.Errorf("peers while one is away: %+v, %v", meetings, err)
	}
	eu.begin()
	if err := eu.awaitFleet(t.Context()); err != nil {
		t.Fatal(err)
	}
	if askJSON(t, &status, "status", "--socket", eu.cfg.AdminSocket()); !status.Server.Draining {
		t.Error("a restart ended the drain")
	}
	if code, out, _ := invoke(t, nil, "drain", "--off", "--socket", eu.cfg.AdminSocket()); code != exitOK || out != "takes new containers\n" {
		t.Errorf("drain --off: code %d, %q", code, out)
	}
	if _, err := eu.api.Copy(t.Context(), source.ID, onEU); err != nil {
		t.Errorf("a copy after the drain: %v", err)
	}
}

// checkLogs looks for the one request id that ties the lines of both servers about a copy together, and for what must
// stand in no log.
func checkLogs(t *testing.T, f *fleet, entries []observer.LoggedEntry, made client.Created) {
	t.Helper()
	private, err := os.ReadFile(f.keys.private)
	if err != nil {
		t.Fatal(err)
	}
	secrets := []string{f.token, "PRIVATE KEY", strings.Split(string(private), "\n")[1], strings.Split(made.PrivateKey, "\n")[1]}
	ids := make(map[string][]string) // by what was logged
	for _, entry := range entries {
		text := fmt.Sprint(entry.Message, entry.ContextMap())
		for _, secret := range secrets {
			if secret == "" || strings.Contains(text, secret) {
				t.Errorf("a secret (%.10s…) is logged: %s", secret, text)
			}
		}
		id, _ := entry.ContextMap()["request_id"].(string)
		line := entry.LoggerName + " " + entry.Message
		if line == "node-us.api request" && entry.ContextMap()["route"] != "/api/v1/containers/{id}/copy" || entry.ContextMap()["kind"] == "create" {
			continue
		}
		ids[line] = append(ids[line], id)
	}
	want := ids["node-us.api request"]
	if len(want) != 1 || want[0] == "" {
		t.Fatalf("request ids of the copy: %v", want)
	}
	for _, line := range []string{"node-eu.agent phase done", "node-us.transfer frozen", "node-us.transfer stream sent"} {
		if len(ids[line]) == 0 || slices.ContainsFunc(ids[line], func(id string) bool { return id != want[0] }) {
			t.Errorf("%q is logged with the request ids %v, want %s", line, ids[line], want[0])
		}
	}
}

func TestDoctorWithoutAnAgent(t *testing.T) {
	environ := []string{"HOODY_INCUS_SOCKET=/nowhere", "HOODY_STATE_DIR=" + t.TempDir(), "HOODY_RUNTIME_DIR=" + t.TempDir()}
	code, out, _ := invoke(t, environ, "doctor")
	if code != exitProblem || !strings.Contains(out, "OK    config       valid\n") || !strings.Contains(out, "FAIL  agent        no agent answers at ") ||
		!strings.Contains(out, "-> systemctl status hoody-agent") {
		t.Errorf("code %d\n%s", code, out)
	}
	code, out, _ = invoke(t, []string{"HOODY_LOG_LEVEL=loud"}, "doctor")
	if code != exitProblem || !strings.HasPrefix(out, "FAIL  config ") || strings.Count(out, "FAIL") != 1 {
		t.Errorf("wrong configuration: code %d\n%s", code, out)
	}
}

func askJSON(t *testing.T, into any, args ...string) {
	t.Helper()
	code, out, stderr := invoke(t, nil, append(args, "-o", "json")...)
	if code != exitOK {
		t.Fatalf("%v: code %d, %s", args, code, stderr)
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		t.Fatalf("%v: %v in %s", args, err, out)
	}
}

func TestAbsentAgent(t *testing.T) {
	dir := t.TempDir()
	for _, command := range []string{"status", "jobs", "containers", "findings", "gc", "drain"} {
		code, out, stderr := invoke(t, []string{"HOODY_RUNTIME_DIR=" + dir}, command)
		if code != exitAbsent || out != "" || !strings.Contains(stderr, "no agent answers at "+dir+"/admin.sock: is it running") {
			t.Errorf("%s: code %d, %q, %q", command, code, out, stderr)
		}
		if code, _, _ := invoke(t, nil, command, "-o", "xml"); code != exitUsage {
			t.Errorf("%s -o xml: code %d", command, code)
		}
	}
}

// What an agent answers is told as it is: it is there, whatever it cannot do now.
func TestAnswerOfAnAgentWithoutItsStore(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "admin.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, `{"class": "unavailable", "message": "etcd does not answer"}`)
	})}
	go server.Serve(listener)
	defer server.Close()
	for _, command := range []string{"gc", "drain", "status"} {
		if code, _, stderr := invoke(t, nil, command, "--socket", socket); code != exitFailed || stderr != "hoody-agent: etcd does not answer\n" {
			t.Errorf("%s: code %d, %q", command, code, stderr)
		}
	}
}

func TestFindingsForPeople(t *testing.T) {
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	var text strings.Builder
	printAgentFindings(&text, nil, now)
	printAgentFindings(&text, []agent.Finding{{Code: agent.FindingFilesGone, Object: "c1", Text: "its files\nare gone", Hint: "put them back", Since: now.Add(-time.Minute)}}, now)
	if got, want := text.String(), "nothing is out of order\nfiles-gone for 1m0s: its files are gone\n  -> put them back\n"; got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestStatusForPeople(t *testing.T) {
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	began := now.Add(-90 * time.Second)
	var text strings.Builder
	printStatus(&text, admin.Status{
		Server:     admin.Server{ID: "64c1", Name: "a\x1b[31m", Version: "v1", StartedAt: now.Add(-50 * time.Hour), API: "127.0.0.1:6470"},
		Pool:       admin.Pool{Root: "tank/incus", Health: "ONLINE", Size: 100 << 30, Free: 10 << 30, Fragmentation: 12},
		Store:      admin.Store{Stale: true, StaleSince: now.Add(-time.Minute)},
		Health:     []health.State{{Code: health.StoreUnreachable, Text: "no answer", Hint: "start etcd", Blocks: true, Since: now.Add(-time.Minute)}},
		Containers: map[string]int{"stopped": 2, "running": 10},
		Fleet:      []admin.Neighbour{{ID: "64c2", Name: "b", LastSeen: now.Add(-time.Hour), Containers: 3}},
		Jobs: []admin.Job{{
			ID: "0123456789abcdef0123456789abcdef", Kind: "copy", State: "running", Phase: "replicate", Attempts: 2, Error: "cut\noff", Class: "aborted",
			Container: admin.Named{ID: "c1", Name: "web-copy"}, Source: &admin.Named{ID: "c2", Name: "web"}, From: &admin.Named{ID: "64c2", Name: "b"},
			Progress: store.Progress{BytesDone: 1 << 30, BytesTotal: 4 << 30}, CreatedAt: began, StartedAt: &began,
		}},
	}, now)
	want := `server      a [31m (64c1)
agent       v1, up 2d2h, API at 127.0.0.1:6470
pool        tank/incus, ONLINE, 10.0 GiB free of 100.0 GiB (90 % used), fragmentation 12 %
store       has not answered for 1m0s; reads are that old
containers  10 running, 2 stopped
fleet       b (64c2), not alive, last seen 1h0m ago, 3 containers
health      NOT READY
  store_unreachable for 1m0s: no answer
    -> start etcd

JOB           KIND  CONTAINER  FROM      STATE    PHASE                 PROGRESS                                          AGE
456789abcdef  copy  web-copy   web on b  running  replicate (2 failed)  [#####...............]  25 %  1.0 GiB of 4.0 GiB  1m30s
456789abcdef: aborted: cut off
`
	if got := text.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestVerificationForPeople(t *testing.T) {
	var text strings.Builder
	printVerification(&text, agent.Verification{Snapshot: 7, Shared: true, Took: 90 * time.Second, Comparison: digest.Comparison{
		Entries: 3, Bytes: 2 << 20, Omitted: 4, Differences: []digest.Difference{{Path: "rootfs/a\x1b[2J", Here: "-rw-r--r-- 0:0 1 bytes"}},
	}})
	want := `PATH          COPY                    SOURCE
rootfs/a [2J  -rw-r--r-- 0:0 1 bytes  missing

different: 5 paths, 3 files and directories, 2.0 MiB, in 1m30s
compared: snapshot 7, of their common history
copy and source share the snapshot: it was read whole, there was nothing to compare it with
`
	if got := text.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestReportForPeople(t *testing.T) {
	var text strings.Builder
	printReport(&text, agent.Report{DryRun: true, Objects: []lineage.Object{
		{Name: "containers/hoody-1@hoody-x", Used: 10, Verdict: lineage.VerdictKept, Reasons: []string{"undo"}},
		{Name: "hoody/generations/1", Used: 2 << 20, Verdict: lineage.VerdictRemovable, Reasons: []string{"nobody refers to it"}},
		{Name: "hoody/generations/2@mine", Verdict: lineage.VerdictUnlisted, Reasons: []string{"no record lists it", "no tombstone"}},
	}}, false)
	want := `VERDICT    OBJECT                    USED     WHY
removable  hoody/generations/1       2.0 MiB  nobody refers to it
unlisted   hoody/generations/2@mine  0 B      no record lists it; no tombstone

1 kept, 1 removable (at least 2.0 MiB), 1 unlisted, 0 foreign, 0 deferred
nothing was removed; --apply removes
`
	if got := text.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestLiveJobs(t *testing.T) {
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	job := admin.Job{ID: "j", Kind: "copy", State: "running", Progress: store.Progress{BytesDone: 100 << 20, BytesTotal: 1000 << 20}, CreatedAt: now}
	view := jobsView{screen: true}
	var first, second strings.Builder
	view.draw(&first, []admin.Job{job}, now)
	job.Progress.BytesDone, job.Progress.BytesPerSecond = 400<<20, 100<<20
	view.draw(&second, []admin.Job{job}, now.Add(3*time.Second))
	if strings.Contains(first.String(), "\x1b") || strings.Contains(first.String(), "/s") {
		t.Errorf("first view: %q", first.String())
	}
	if !strings.HasPrefix(second.String(), "\x1b[2A\x1b[J") || !strings.Contains(second.String(), " 40 %  400.0 MiB of 1000.0 MiB  100.0 MiB/s  6s left") {
		t.Errorf("second view: %q", second.String())
	}
}
