package hosts

import (
	"fmt"
	"path/filepath"
)

func kernelProgram(made *artefacts) string { return filepath.Join(made.kernel, "linux") }
func keyFile(made *artefacts) string       { return filepath.Join(made.root, "key") }

// hostAddr is the address of the host at position i.
func hostAddr(i int) string { return fmt.Sprintf("10.99.0.%d", i+1) }

// hostMAC is the address of its network card.
func hostMAC(i int) string { return fmt.Sprintf("02:00:0a:63:00:%02x", i+1) }
