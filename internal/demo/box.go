package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"strings"
)

// box is a container: its name in the API, and its files on its server.
type box struct {
	id     string
	server Server
}

// write makes a file with this content.
func (b box) write(ctx context.Context, name, content string) error {
	return b.writeFrom(ctx, name, strings.NewReader(content), 0)
}

// random fills a file from an offset on with data that neither compresses nor occurs anywhere else.
func (b box) random(ctx context.Context, name string, offset, length int64) error {
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(rand.Uint32())
	}
	return b.writeFrom(ctx, name, io.LimitReader(rand.NewChaCha8(seed), length), offset)
}

func (b box) writeFrom(ctx context.Context, name string, content io.Reader, offset int64) error {
	return b.server.Host.Use(ctx, b.id, func(root *os.Root) error {
		if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
		flags := os.O_WRONLY | os.O_CREATE
		if offset == 0 {
			flags |= os.O_TRUNC
		}
		file, err := root.OpenFile(name, flags, 0o644)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.NewOffsetWriter(file, offset), content)
		if err := errors.Join(err, file.Close()); err != nil {
			return fmt.Errorf("write /%s in container %s: %w", name, b.id, err)
		}
		return nil
	})
}

// read returns a file's content without white space around it; "" when there is no such file.
func (b box) read(ctx context.Context, name string) (content string, err error) {
	err = b.server.Host.Use(ctx, b.id, func(root *os.Root) error {
		text, err := root.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		content = strings.TrimSpace(string(text))
		return err
	})
	return content, err
}

// hash is the treeHash of the container's files.
func (b box) hash(ctx context.Context) (hash string, err error) {
	err = b.server.Host.Use(ctx, b.id, func(root *os.Root) error {
		hash, err = treeHash(root)
		return err
	})
	return hash, err
}
