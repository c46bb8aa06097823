/*
 * Loaded into User Mode Linux with LD_PRELOAD: leaves out calls of ptrace that would set a guest process's floating point
 * registers to what they are.
 *
 * UML reads them after each stop of a guest process and sets them before each start, although it seldom changes them.
 * Setting them makes Linux allocate and free virtual memory (xstateregs_set in arch/x86/kernel/fpu/regset.c), which is slow
 * where page tables are another machine's business: a third of a guest's time on some virtual machines.
 */
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { SLOTS = 1024, LARGEST = 4096 };

/* What the registers of a stopped process are known to be. UML's kernel is one thread. */
static struct known {
	pid_t pid; /* 0 for nothing known */
	size_t length;
	unsigned char registers[LARGEST];
} known[SLOTS];

static long raw(long request, pid_t pid, void *addr, void *data)
{
	long result, word;

	if (request < PTRACE_PEEKTEXT || request > PTRACE_PEEKUSER)
		return syscall(SYS_ptrace, request, pid, addr, data);
	result = syscall(SYS_ptrace, request, pid, addr, &word); /* as ptrace(2) says of the C library */
	if (result < 0)
		return result;
	errno = 0;
	return word;
}

long ptrace(enum __ptrace_request request, ...)
{
	va_list arguments;
	pid_t pid;
	void *addr, *data;
	struct known *slot;
	const struct iovec *vector;
	long result;

	va_start(arguments, request);
	pid = va_arg(arguments, pid_t);
	addr = va_arg(arguments, void *);
	data = va_arg(arguments, void *);
	va_end(arguments);
	slot = &known[(unsigned int)pid % SLOTS];
	vector = data;

	switch ((int)request) {
	case PTRACE_GETREGS:
	case PTRACE_SETREGS:
	case PTRACE_PEEKUSER:
	case PTRACE_GETSIGINFO:
		return raw(request, pid, addr, data); /* leaves these registers alone */
	case PTRACE_GETREGSET:
	case PTRACE_SETREGSET:
		if ((long)addr != NT_X86_XSTATE)
			break;
		if (request == PTRACE_SETREGSET && slot->pid == pid && slot->length <= vector->iov_len &&
		    memcmp(slot->registers, vector->iov_base, slot->length) == 0)
			return 0;
		if (slot->pid == pid)
			slot->pid = 0;
		result = raw(request, pid, addr, data);
		if (result == 0 && vector->iov_len <= LARGEST) {
			slot->pid = pid;
			slot->length = vector->iov_len;
			memcpy(slot->registers, vector->iov_base, slot->length);
		}
		return result;
	}
	if (slot->pid == pid)
		slot->pid = 0; /* anything else may let it run */
	return raw(request, pid, addr, data);
}
