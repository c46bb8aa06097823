package main

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hoodynetwork/hoody-agent/internal/admin"
	"github.com/hoodynetwork/hoody-agent/internal/peer"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// helloLimit bounds one hello, the way back included.
const helloLimit = 12 * time.Second

// greetings serves hellos of other agents.
func (l *links) greetings() http.Handler {
	say := func() peer.Greeting {
		return peer.Greeting{ServerID: l.d.serverID, Version: l.d.build.version, Time: time.Now().UTC()}
	}
	return peer.NewHelloHandler(l.d.log.Named("transfer"), say, func(ctx context.Context, serverID string) error {
		_, err := peer.Hello(ctx, l.dialer.Client(serverID), false)
		return err
	})
}

// meet says hello to all other servers at once and tells how that went, by name.
func (l *links) meet(ctx context.Context, servers []*store.Server) []admin.Meeting {
	meetings := []admin.Meeting{}
	for _, server := range servers {
		if server.ID != l.d.serverID {
			meetings = append(meetings, admin.Meeting{Server: admin.Named{ID: server.ID, Name: server.Name}, Address: server.PeerAddress})
		}
	}
	var group errgroup.Group
	group.SetLimit(16)
	for i := range meetings {
		group.Go(func() error {
			l.hello(ctx, &meetings[i])
			return nil
		})
	}
	_ = group.Wait()
	slices.SortFunc(meetings, func(x, y admin.Meeting) int { return strings.Compare(x.Server.String(), y.Server.String()) })
	return meetings
}

func (l *links) hello(ctx context.Context, m *admin.Meeting) {
	if l.dialer == nil {
		m.There = "this agent stands alone: peer.listen is not set"
		return
	}
	ctx, cancel := context.WithTimeout(ctx, helloLimit)
	defer cancel()
	// The way there first, and short: what comes back with it is the other clock, as it was in the middle.
	began := time.Now()
	greeting, err := peer.Hello(ctx, l.dialer.Client(m.Server.ID), false)
	if err != nil {
		m.There = err.Error()
		return
	}
	took := time.Since(began)
	m.Version, m.Took, m.Skew = greeting.Version, took, greeting.Time.Sub(began.Add(took/2))
	greeting, err = peer.Hello(ctx, l.dialer.Client(m.Server.ID), true)
	if m.Back = greeting.Back; err != nil {
		m.Back = err.Error()
	}
}
