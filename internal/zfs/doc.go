// Package zfs is the real pool: agent.Pool on OpenZFS.
//
// Two ways lead to ZFS. The go-zfs library does what it does soundly: create, set, destroy and read one dataset
// (library.go says what it is not used for, and why). Everything else is the zfs command, run by one runner with an
// argument vector, a context and a bounded standard error (runner.go). Both report to the same observer and log, and both
// end in a *CommandError whose class comes from one table (classify.go), so callers never look at texts.
//
// Names are relative to the pool's root and are checked before they reach a command (names.go): they come from records
// and peers as well as from ZFS itself.
//
// What the package never does: receive -F, rollback -r or -f, destroy -r, -R or -d, send -R or -I, or let libzfs choose
// the origin of a clone. Facts without a source in a comment were tried on OpenZFS 2.3.9, Linux 6.12; the tests behind
// the build tag e2e repeat them.
package zfs
