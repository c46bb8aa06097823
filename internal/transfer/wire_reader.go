package transfer

import (
	"errors"
	"io"
	"sync"
	"time"
)

var (
	errStalled = errors.New("the peer sent nothing for too long")
	errClosed  = errors.New("the stream was closed")
)

// startSize is how many bytes say that a stream has begun. The head of one from zfs send is 312, and comes before it walks the dataset.
const startSize = 64 << 10

// wireReader reads a response body, counts, and ends it when a Read waits for too long. Only waiting for the peer
// counts: between Reads the consumer may take its time.
type wireReader struct {
	body    io.ReadCloser
	start   time.Duration // until startSize bytes are here
	stall   time.Duration // from then on
	observe func(content, wire int)
	count   uint64
	err     error // what the last Read ended with; io.EOF when the body is complete

	mu      sync.Mutex
	ended   error // why the body was closed from outside; nil if it was not
	closing sync.WaitGroup
	timer   *time.Timer // nil while no Read waits
}

func newWireReader(body io.ReadCloser, start, stall time.Duration, observe func(content, wire int)) *wireReader {
	return &wireReader{body: body, start: start, stall: stall, observe: observe}
}

func (w *wireReader) Read(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if err := w.arm(); err != nil {
		w.err = err
		return 0, err
	}
	n, err := w.body.Read(p)
	if ended := w.disarm(); ended != nil && err != nil && !errors.Is(err, io.EOF) {
		err = ended
	}
	w.count += uint64(n)
	if n > 0 {
		w.observe(0, n)
	}
	w.err = err
	return n, err
}

// arm starts the clock. It fails when the body was closed.
func (w *wireReader) arm() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended != nil {
		return w.ended
	}
	patience := w.stall
	if w.count < startSize {
		patience = w.start
	}
	w.timer = time.AfterFunc(patience, func() { w.end(errStalled) })
	return nil
}

func (w *wireReader) disarm() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
	return w.ended
}

// end closes the body for a reason; the first one counts. net/http allows that beside a Read, which then fails.
func (w *wireReader) end(reason error) {
	w.mu.Lock()
	if w.ended != nil {
		w.mu.Unlock()
		return
	}
	w.ended = reason
	w.closing.Add(1)
	w.mu.Unlock()
	defer w.closing.Done()
	_ = w.body.Close()
}

// reason is why the body was closed from this side; nil if it was not.
func (w *wireReader) reason() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ended
}

// close ends the body and waits until it is closed.
func (w *wireReader) close() {
	w.end(errClosed)
	w.closing.Wait()
}
