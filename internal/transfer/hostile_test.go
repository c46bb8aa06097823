package transfer

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/zstd"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// answered is the raw text of an answer as a sender might give it, parsed the way the transport does.
func answered(t testing.TB, raw []byte) (*http.Response, bool) {
	t.Helper()
	response, err := http.ReadResponse(bufio.NewReaderSize(bytes.NewReader(raw), answerBuffer), nil)
	return response, err == nil
}

// compressedAnswer is an honest answer around a body that need not be.
func compressedAnswer(t testing.TB, body, content []byte) []byte {
	t.Helper()
	var raw bytes.Buffer
	header := http.Header{}
	trailer{bytes: uint64(len(content)), wire: uint64(len(body)), hash: xxhash.Sum64(content)}.write(header)
	fmt.Fprintf(&raw, "HTTP/1.1 200 OK\r\nContent-Encoding: zstd\r\nTransfer-Encoding: chunked\r\nTrailer: %s\r\n\r\n", trailerStatus)
	if len(body) > 0 {
		fmt.Fprintf(&raw, "%x\r\n%s\r\n", len(body), body)
	}
	raw.WriteString("0\r\n")
	must(t, header.Write(&raw))
	raw.WriteString("\r\n")
	return raw.Bytes()
}

func zstdOf(t testing.TB, content []byte, options ...zstd.EOption) []byte {
	t.Helper()
	encoder, err := zstd.NewWriter(nil, options...)
	must(t, err)
	return encoder.EncodeAll(content, nil)
}

func TestHostileCompression(t *testing.T) {
	zeros := make([]byte, 64<<20)
	good := zstdOf(t, zeros)
	broken := bytes.Clone(good)
	broken[len(broken)/2] ^= 0xff
	for name, body := range map[string][]byte{
		"not zstd":             []byte("certainly not"),
		"window of 64 MiB":     zstdOf(t, zeros, zstd.WithWindowSize(64<<20)),
		"window of 3.75 TiB":   {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff, 0x01, 0x00, 0x00},
		"claims 2^63 in one":   {0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x01, 0x00, 0x00},
		"broken in the middle": broken,
		"cut":                  good[:len(good)-3],
		"data after the frame": append(bytes.Clone(good), "more"...),
	} {
		t.Run(name, func(t *testing.T) {
			response, ok := answered(t, compressedAnswer(t, body, zeros))
			if !ok {
				t.Fatal("no answer")
			}
			stream, err := OpenStream(response, StreamOptions{})
			must(t, err)
			defer func() { must(t, stream.Close()) }()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err = io.Copy(io.Discard, stream)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, errdefs.ErrCorrupt) {
				t.Errorf("got %v, want ErrCorrupt", err)
			}
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
				t.Errorf("%d bytes allocated", grown)
			}
		})
	}
	t.Run("honest", func(t *testing.T) {
		response, _ := answered(t, compressedAnswer(t, good, zeros))
		stream, err := OpenStream(response, StreamOptions{})
		must(t, err)
		n, err := io.Copy(io.Discard, stream)
		must(t, err)
		if n != int64(len(zeros)) {
			t.Errorf("%d bytes", n)
		}
	})
}

// TestMemoryOfATransfer fills a receiver's window and stops reading, which is the most that both ends together hold.
func TestMemoryOfATransfer(t *testing.T) {
	data := prose(8 << 20)
	full := make(chan struct{})
	f := newFleet(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = WriteStream(w, r, &repeat{data: data, left: 1 << 30}, StreamOptions{StallTimeout: 500 * time.Millisecond})
		close(full)
	}))
	_, err := f.dialer.session(t.Context(), bob)
	must(t, err)
	before := heap()
	stream := f.open(t, t.Context(), true, StreamOptions{})
	_, err = io.CopyN(io.Discard, stream, 64<<20)
	must(t, err)
	running := heap()
	await(t, "the window to be full", full)
	if stuck := heap(); running-before > 64<<20 || stuck-before > 64<<20 {
		t.Errorf("%d MiB while running, %d MiB when stuck", (running-before)>>20, (stuck-before)>>20)
	} else {
		t.Logf("%d MiB while running, %d MiB when stuck", (running-before)>>20, (stuck-before)>>20)
	}
	runtime.KeepAlive(stream)
}

// heap is what is in use, in bytes.
func heap() int64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

func FuzzTrailer(f *testing.F) {
	f.Add("complete", "10", "10", "00000000000000aa", "")
	f.Add("failed", "0", "0", "0000000000000000", `%7B%22class%22:%22busy%22%7D`)
	f.Add("failed", "1", "-1", "x", "%zz")
	f.Fuzz(func(t *testing.T, status, length, wire, hash, failure string) {
		header := http.Header{trailerStatus: {status}, trailerBytes: {length}, trailerWire: {wire}, trailerHash: {hash}, trailerError: {failure}}
		parsed, err := parseTrailer(header)
		if err != nil {
			if !errors.Is(err, errdefs.ErrCorrupt) {
				t.Fatalf("an error of class %v: %v", errdefs.ClassOf(err), err)
			}
			return
		}
		if (status == statusFailed) != (parsed.failure != nil) {
			t.Fatalf("%q became %+v", status, parsed)
		}
		// What was understood says the same when it is written again.
		again := http.Header{}
		parsed.write(again)
		second, err := parseTrailer(again)
		if err != nil || second.bytes != parsed.bytes || second.wire != parsed.wire || second.hash != parsed.hash {
			t.Fatalf("%+v became %+v, %v", parsed, second, err)
		}
	})
}

// FuzzStream feeds whole answers to the receiver. Whatever comes, it must end, within its memory, and may succeed only
// when length and hash are those of what was handed out.
func FuzzStream(f *testing.F) {
	content := []byte("the quick brown fox")
	f.Add(compressedAnswer(f, zstdOf(f, content), content))
	f.Add(compressedAnswer(f, append(appendStored(nil, content[:5]), zstdOf(f, content[5:])...), content))
	recorder := httptest.NewRecorder()
	_, err := WriteStream(recorder, httptest.NewRequest(http.MethodGet, "/", nil), bytes.NewReader(content), StreamOptions{})
	must(f, err)
	var raw bytes.Buffer
	response := recorder.Result()
	response.ProtoMajor, response.ProtoMinor, response.TransferEncoding = 1, 1, []string{"chunked"}
	must(f, response.Write(&raw))
	f.Add(raw.Bytes())
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		response, ok := answered(t, raw)
		if !ok {
			return
		}
		stream, err := OpenStream(response, StreamOptions{MaxBytes: 1 << 20})
		if err != nil {
			return
		}
		got, err := io.ReadAll(stream)
		must(t, stream.Close())
		if err != nil {
			if class := errdefs.ClassOf(err); class == nil {
				t.Fatalf("no class: %v", err)
			}
			return
		}
		said, err := parseTrailer(response.Trailer)
		if err != nil || said.failure != nil || said.bytes != uint64(len(got)) || said.hash != xxhash.Sum64(got) {
			t.Fatalf("accepted %d bytes on %+v, %v", len(got), said, err)
		}
	})
}
