package config

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// address checks host:port as a listener takes it; the host may be empty.
func (v *validator) address(field, address string) {
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err == nil && strings.Contains(host, ":") {
		_, err = netip.ParseAddr(host)
	}
	if err != nil {
		v.fail(field, "must be host:port, is %q", address)
	}
}

func (v *validator) optionalAddress(field, address string) {
	if address != "" {
		v.address(field, address)
	}
}

// bindable checks an address that etcd listens on: it takes no names (checkBindURLs of its package embed).
func (v *validator) bindable(field, address string) {
	host, _, err := net.SplitHostPort(address)
	if err != nil || host == "localhost" {
		return // the first is said already
	}
	if _, err := netip.ParseAddr(host); err != nil {
		v.fail(field, "must name its host by IP address, is %q", address)
	}
}

// dialable checks the address that others are told: the advertised one or, without, the one listened on. A wildcard
// is fine to listen on, but nobody can dial it.
func (v *validator) dialable(field, advertise, listenField, listen string) {
	v.optionalAddress(field, advertise)
	told := advertise
	if told == "" {
		told = listen
	}
	host, port, err := net.SplitHostPort(told)
	if err != nil {
		return // said already, of this field or of the other
	}
	ip, err := netip.ParseAddr(host)
	if host == "" || (err == nil && ip.IsUnspecified()) || port == "0" {
		v.fail(field, "must be an address that other hosts can dial; %s is %q", listenField, listen)
	}
}

// isLoopback tells whether host:port is reachable from this host only.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
