package transfer

import (
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"sync"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// roundTrip sends a request and waits for the head of its answer, for timeout after the request was written and after each notice
// of the peer's that it has not forgotten it (KeepWaiting). http.Transport's own timeout does not know notices: who waits in
// a queue for long would be sent to its end time and again.
func roundTrip(transport http.RoundTripper, request *http.Request, timeout time.Duration) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(request.Context())
	giveUp := func() {
		cancel(errdefs.New(errdefs.ErrUnavailable, "", "no answer and no notice of one for %s", timeout))
	}
	var (
		mu    sync.Mutex
		timer *time.Timer // nil before the request is written, and once the answer is there
		over  bool
	)
	wait := func() {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case over:
		case timer == nil:
			timer = time.AfterFunc(timeout, giveUp)
		default:
			timer.Reset(timeout)
		}
	}
	response, err := transport.RoundTrip(request.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest:   func(httptrace.WroteRequestInfo) { wait() },
		Got1xxResponse: func(int, textproto.MIMEHeader) error { wait(); return nil },
	})))
	mu.Lock()
	over = true
	if timer != nil {
		timer.Stop()
	}
	mu.Unlock()
	if err != nil {
		cancel(nil)
		return nil, err
	}
	response.Body = &answerBody{response.Body, func() { cancel(nil) }}
	return response, nil
}

// answerBody lets go of the request's context when it is closed.
type answerBody struct {
	io.ReadCloser
	release func()
}

func (b *answerBody) Close() error {
	defer b.release()
	return b.ReadCloser.Close()
}

// NoticeInterval is how often who waits for an answer is told that it is still coming. An agent that does not know notices bears five.
const NoticeInterval = DefaultHeaderTimeout / 4

// KeepWaiting tells the peer that sent a request at each interval that it is not forgotten, until the returned function is called,
// which waits for the end of that. Nothing else may be written to w meanwhile.
func KeepWaiting(w http.ResponseWriter, interval time.Duration) (stop func()) {
	answered := make(chan struct{})
	var notices sync.WaitGroup
	notices.Go(func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-answered:
				return
			case <-ticker.C:
				_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTimeout))
				w.WriteHeader(http.StatusProcessing)
			}
		}
	})
	return func() {
		close(answered)
		notices.Wait()
	}
}
