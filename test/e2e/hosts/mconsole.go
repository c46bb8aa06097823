package hosts

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"
)

// A guest's kernel takes commands on a datagram socket (kernel documentation, "User Mode Linux", The Management
// Console; the frames are those of arch/um/drivers/mconsole.h). It answers when nothing else in the guest does.
const (
	mconsoleMagic   = 0xcafebabe
	mconsoleVersion = 2
	mconsoleLength  = 512 // of a request's text
	mconsoleTimeout = 5 * time.Second
)

// mconsoleRequest is a frame of the management console as it travels.
type mconsoleRequest struct {
	Magic, Version, Length uint32
	Text                   [mconsoleLength]byte
}

// ask gives the guest's kernel a command and returns all that it answers.
func (m *machine) ask(command string) (string, error) {
	m.mu.Lock()
	dir := m.umlDir
	m.mu.Unlock()
	socket := filepath.Join(dir, m.name, "mconsole")
	own := filepath.Join(dir, fmt.Sprintf("asker-%d", time.Now().UnixNano()))
	conn, err := net.DialUnix("unixgram", &net.UnixAddr{Name: own, Net: "unixgram"}, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return "", fmt.Errorf("ask the kernel of %s: %w", m.name, err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(mconsoleTimeout)) // cannot fail on an open socket
	request := mconsoleRequest{Magic: mconsoleMagic, Version: mconsoleVersion, Length: uint32(len(command))}
	copy(request.Text[:], command)
	if err := binary.Write(conn, binary.NativeEndian, request); err != nil {
		return "", fmt.Errorf("ask the kernel of %s: %w", m.name, err)
	}
	var said strings.Builder
	for frame := make([]byte, 4096); ; {
		n, err := conn.Read(frame)
		if err != nil {
			return said.String(), fmt.Errorf("the kernel of %s does not answer: %w", m.name, err)
		}
		var header struct{ Failed, More, Length uint32 }
		if err := binary.Read(bytes.NewReader(frame[:n]), binary.NativeEndian, &header); err != nil {
			return said.String(), fmt.Errorf("answer of the kernel of %s: %w", m.name, err)
		}
		size := binary.Size(header)
		said.Write(frame[size:min(n, size+int(header.Length))])
		if header.More == 0 {
			return said.String(), nil
		}
	}
}

// state is what the guest's kernel says of its memory, and of tasks that wait for what does not come.
func (m *machine) state() string {
	var said strings.Builder
	for _, command := range []string{"sysrq 9", "sysrq m", "sysrq w", "sysrq 4"} { // the first and the last: how much is shown
		answer, err := m.ask(command)
		if err != nil {
			fmt.Fprintf(&said, "%s%v", answer, err)
			break
		}
		said.WriteString(answer)
	}
	return tail(said.String(), 80)
}
