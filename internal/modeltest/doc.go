// Package modeltest runs random programs of operations on a small fleet of agents and compares what the fleet holds, after
// each step, with a model in memory that is too simple to be wrong.
//
//	program.go   what a program is, and its text form
//	model.go     what each operation is to do: the specification
//	generate.go  programs from seeds
//	fleet.go     servers, agents and the store that they share; crashes, lost connections, lost stores
//	drive.go     performs a program's steps on a fleet
//	interrupt.go what is cancelled or deleted while it is under way
//	byhand.go    what an admin does to snapshots with zfs
//	check.go     compares the fleet with the model
//	run.go       all of it together, and shrinking of programs that fail
//
// A host is what a server's agent runs on (host.go): stand-ins for the tests of every day, or real pools.
package modeltest
