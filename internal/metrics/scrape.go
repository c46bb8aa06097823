package metrics

import (
	"cmp"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// Collect implements prometheus.Collector.
func (s *scraper) Collect(ch chan<- prometheus.Metric) {
	if s.sources.Jobs != nil {
		s.collectJobs(ch)
	}
	if s.sources.Transfers != nil {
		transfers := s.sources.Transfers()
		ch <- gauge(s.gauges.transfers, float64(transfers.Sending), directionSent)
		ch <- gauge(s.gauges.transfers, float64(transfers.Receiving), directionReceived)
		ch <- gauge(s.gauges.waiting, float64(transfers.Waiting))
		ch <- gauge(s.gauges.remaining, float64(transfers.Remaining))
	}
	if s.sources.Mirror != nil {
		mirror := s.sources.Mirror()
		ch <- gauge(s.gauges.lag, mirror.Lag.Seconds())
		ch <- gauge(s.gauges.stale, boolean(mirror.Stale))
	}
	if s.sources.Database != nil {
		s.collectDatabase(ch)
	}
	if s.sources.Containers != nil {
		for status, count := range s.sources.Containers() {
			ch <- gauge(s.gauges.containers, float64(count), status)
		}
	}
	if s.sources.Fleet != nil {
		alive, gone := s.sources.Fleet()
		ch <- gauge(s.gauges.servers, float64(alive), "alive")
		ch <- gauge(s.gauges.servers, float64(gone), "gone")
	}
	s.collectVitals(ch)
	if s.sources.Copies != nil {
		s.collectCopies(ch)
	}
}

func (s *scraper) collectDatabase(ch chan<- prometheus.Metric) {
	database := s.sources.Database()
	if database.Size == 0 {
		return
	}
	ch <- gauge(s.gauges.databaseSize, float64(database.Size))
	ch <- gauge(s.gauges.databaseUsed, float64(database.Used))
	if database.Quota > 0 {
		ch <- gauge(s.gauges.databaseQuota, float64(database.Quota))
	}
	for alarm, raised := range database.Alarms {
		ch <- gauge(s.gauges.alarm, boolean(raised), alarm)
	}
}

// poolStates are the healths that a pool can have (zpoolconcepts(7)).
var poolStates = [...]string{"ONLINE", "DEGRADED", "FAULTED", "OFFLINE", "REMOVED", "UNAVAIL", "SUSPENDED"}

func (s *scraper) collectVitals(ch chan<- prometheus.Metric) {
	if s.sources.Pool != nil {
		pool := s.sources.Pool()
		if pool.Size > 0 {
			ch <- gauge(s.gauges.poolSize, float64(pool.Size))
			ch <- gauge(s.gauges.poolFree, float64(pool.Free))
		}
		if pool.Health != "" { // a suspended pool tells it, and nothing of its datasets
			if pool.Fragmentation >= 0 {
				ch <- gauge(s.gauges.fragmentation, pool.Fragmentation)
			}
			for _, state := range poolStates {
				ch <- gauge(s.gauges.poolHealth, boolean(state == pool.Health), state)
			}
		}
	}
	if s.sources.Health != nil {
		health := s.sources.Health()
		ch <- gauge(s.gauges.ready, boolean(health.Ready))
		for code, holds := range health.States {
			ch <- gauge(s.gauges.degraded, boolean(holds), code)
		}
	}
	if s.sources.Certificates != nil {
		for name, end := range s.sources.Certificates() {
			ch <- gauge(s.gauges.certificate, float64(end.Unix()), name)
		}
	}
}

// collectCopies gives copies series of their own, first those that follow and lag most, and says of the rest how many there are.
func (s *scraper) collectCopies(ch chan<- prometheus.Metric) {
	copies := s.sources.Copies()
	slices.SortFunc(copies, func(x, y Copy) int {
		return cmp.Or(cmp.Compare(boolean(y.Follows), boolean(x.Follows)), -cmp.Compare(x.Lag, y.Lag), cmp.Compare(x.Container, y.Container))
	})
	here, most := 0, 0.0
	for i, c := range copies {
		if i < s.sources.MaxCopies {
			if c.Here {
				ch <- gauge(s.gauges.copyLag, c.Lag.Seconds(), c.Container, c.Source)
			}
			if c.WrittenKnown {
				ch <- gauge(s.gauges.copyWritten, float64(c.Written), c.Container, c.Source)
			}
		}
		if c.Here {
			here++
			if c.Follows {
				most = max(most, c.Lag.Seconds())
			}
		}
	}
	ch <- gauge(s.gauges.copies, float64(here))
	ch <- gauge(s.gauges.copyLagMax, most)
}

// collectJobs adds up first: two counts of one kind and state would be two metrics of one name, which fails the scrape.
func (s *scraper) collectJobs(ch chan<- prometheus.Metric) {
	type key struct{ kind, state string }
	counts := map[key]int{}
	for _, c := range s.sources.Jobs() {
		counts[key{s.words.bound("kind", c.Kind), s.words.bound("state", c.State)}] += c.Count
	}
	for k, n := range counts {
		ch <- gauge(s.gauges.jobs, float64(n), k.kind, k.state)
	}
}

func boolean(on bool) float64 {
	if on {
		return 1
	}
	return 0
}
