// Command hoody-agent is the daemon on a container host, and the tools around it.
//
// Exit codes:
//
//	0   success, and a clean shutdown
//	1   it failed; standard error says why
//	2   wrong usage: unknown command, flag or argument
//	3   cut short by a second signal; unfinished work continues at the next start
//	4   no agent answers on the admin socket
//	5   status, doctor: something is wrong, as printed; verify: the files differ;
//	    recover: something is in the way
//	6   run: another process runs under this server's id, on a clone of this host
//	78  the configuration is wrong (EX_CONFIG of sysexits.h); every problem is listed
package main

import "os"

func main() {
	os.Exit(newProgram().execute(os.Args[1:]))
}
