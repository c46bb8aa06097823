package main

import (
	"net/http"
	"time"
)

// answerPatience is how long a client may take for what is written of an answer at a time. It waits in memory meanwhile.
const answerPatience = time.Minute

// patient cuts a client off that does not take what is written within the time. http.Server's WriteTimeout would count the time that an answer takes to
// come about as well, and some wait for a job.
func patient(next http.Handler, patience time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := &patientWriter{ResponseWriter: w, control: http.NewResponseController(w), patience: patience}
		next.ServeHTTP(answer, r)
		answer.own = false
		answer.extend() // for what the server itself still writes, of an answer without content as well
	})
}

// patientWriter gives each Write its time, unless the handler sets deadlines of its own.
type patientWriter struct {
	http.ResponseWriter
	control  *http.ResponseController
	patience time.Duration
	own      bool // the handler does
}

func (w *patientWriter) Write(p []byte) (int, error) {
	w.extend()
	return w.ResponseWriter.Write(p)
}

// SetWriteDeadline implements what http.ResponseController looks for.
func (w *patientWriter) SetWriteDeadline(deadline time.Time) error {
	w.own = true
	return w.control.SetWriteDeadline(deadline)
}

// Unwrap is for http.ResponseController.
func (w *patientWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *patientWriter) extend() {
	if !w.own {
		_ = w.control.SetWriteDeadline(time.Now().Add(w.patience)) // where there are none, there is no slow client either
	}
}
