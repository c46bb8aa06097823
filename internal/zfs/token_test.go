package zfs

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Recorded on OpenZFS 2.3.9, with what zfs send -nvP -t says about them.
var tokens = []struct {
	token string
	point agent.ResumePoint
}{
	{ // full: object 3, offset 0x260000, compressok
		"1-d810cbea7-e0-789c636064000310a500c4ec50360710e72765a52697303030439460caa7a515a7968064d4e0f26c48f2499525a9c540da21ac02abfe92fcf4d2cc1406860f965a469c4cd2090648f29c60f9bcc4dc54209d9897ad5f95560c34ad44bfb828d9a1d8086e1e3703c2fdc9f9b90545a9c5c5f9d90c700000cb331c38",
		agent.ResumePoint{To: 0x601b0209322a39f0, Bytes: 0x785640},
	},
	{ // incremental
		"1-10b215d6b8-108-789c636064000310a501c49c50360710a715e5e7a69766a63040c1074b2d234e26e90405209b1d495d7e52566a7209442f0860c8a7a515a7968064b4e0f26c48f2499525a9c520fbed75b0ea2fc987b842d2fd8076c904592b0324794eb07c5e626e2a904ecccbd6af4a2b069a56a25f5c94ec506c02378f9b01e1cfe4fcdc82a2d4e2e2fc6c06380000cecb2206",
		agent.ResumePoint{To: 4187662057149056793, From: 6925131090531858928},
	},
}

func TestDecodeToken(t *testing.T) {
	for _, want := range tokens {
		got, err := decodeToken(want.token)
		if want.point.From != 0 {
			want.point.Bytes = got.Bytes // not recorded
		}
		if err != nil || got != want.point || got.Bytes == 0 {
			t.Errorf("got %+v, %v, want %+v", got, err, want.point)
		}
	}
}

// pair packs one pair of a native little-endian nvlist.
func pair(name string, kind uint32, value []byte) []byte {
	at := (16 + len(name) + 1 + 7) &^ 7
	packed := make([]byte, at+(len(value)+7)&^7)
	binary.LittleEndian.PutUint32(packed, uint32(len(packed)))
	binary.LittleEndian.PutUint16(packed[4:], uint16(len(name)+1))
	binary.LittleEndian.PutUint32(packed[8:], 1)
	binary.LittleEndian.PutUint32(packed[12:], kind)
	copy(packed[16:], name)
	copy(packed[at:], value)
	return packed
}

func number(name string, value uint64) []byte {
	return pair(name, nvUint64, binary.LittleEndian.AppendUint64(nil, value))
}

var listHeader = []byte{0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0}

func list(pairs ...[]byte) []byte {
	return append(bytes.Join(append([][]byte{listHeader}, pairs...), nil), 0, 0, 0, 0)
}

// seal makes a token of a list, with a right checksum; size may differ from the list's.
func seal(list []byte, size int) string {
	var packed bytes.Buffer
	w := zlib.NewWriter(&packed)
	_, _ = w.Write(list)
	_ = w.Close()
	return fmt.Sprintf("1-%x-%x-%s", fletcher4(packed.Bytes()), size, hex.EncodeToString(packed.Bytes()))
}

func TestDecodeTokenAnyCan(t *testing.T) {
	whole := list(number("object", 1), number("offset", 0), number("bytes", 7), number("toguid", 42),
		pair("toname", nvString, []byte("tank/a@b\x00")), pair("compressok", 1, nil))
	if point, err := decodeToken(seal(whole, len(whole))); err != nil || point.To != 42 || point.Bytes != 7 {
		t.Errorf("%+v, %v", point, err)
	}
	broken := map[string]string{
		"empty":               "",
		"version":             strings.Replace(tokens[0].token, "1-", "2-", 1),
		"option":              "--help",
		"parts":               tokens[0].token + "-",
		"checksum":            strings.Replace(tokens[0].token, "d810", "d811", 1),
		"not hexadecimal":     "1-0-0-zz",
		"odd payload":         tokens[0].token + "0",
		"not zlib":            "1-" + fmt.Sprintf("%x", fletcher4([]byte("abcdefgh"))) + "-8-" + hex.EncodeToString([]byte("abcdefgh")),
		"too long":            "1-0-0-" + strings.Repeat("0", maxToken),
		"claims too much":     seal(whole, maxNVList+1),
		"bomb":                seal(make([]byte, 1<<20), maxNVList),
		"shorter than said":   seal(whole, len(whole)+1),
		"longer than said":    seal(whole, len(whole)-1),
		"no end":              seal(whole[:len(whole)-4], len(whole)-4),
		"no guid":             seal(list(number("object", 1), number("offset", 0), number("bytes", 7)), len(list(number("object", 1), number("offset", 0), number("bytes", 7)))),
		"XDR":                 seal(append([]byte{1}, whole[1:]...), len(whole)),
		"no pairs":            seal(list(), len(list())),
		"pair beyond end":     seal(append(bytes.Clone(listHeader), 0xff, 0xff, 0, 0, 0, 0), len(listHeader)+6),
		"tiny pair":           seal(append(bytes.Clone(listHeader), 5, 0, 0, 0, 0), len(listHeader)+5),
		"value missing":       sealed(pair("toguid", nvUint64, nil)),
		"same name twice":     sealed(number("toguid", 1), number("toguid", 2)),
		"name without a zero": sealed(bytes.Replace(number("toguid", 1), []byte("toguid\x00"), []byte("toguidx"), 1)),
	}
	for name, token := range broken {
		if point, err := decodeToken(token); !errors.Is(err, errdefs.ErrCorrupt) {
			t.Errorf("%s: %+v, %v", name, point, err)
		}
	}
}

func sealed(pairs ...[]byte) string {
	packed := list(pairs...)
	return seal(packed, len(packed))
}

func FuzzToken(f *testing.F) {
	for _, seed := range tokens {
		f.Add(seed.token)
	}
	f.Add("")
	f.Add("1-0-0-")
	f.Add(sealed(number("toguid", 1)))
	f.Fuzz(func(t *testing.T, token string) {
		point, err := decodeToken(token)
		if (err == nil) == (point.To == 0) {
			t.Errorf("%+v, %v", point, err)
		}
		if err != nil && !errors.Is(err, errdefs.ErrCorrupt) {
			t.Errorf("class of %v", err)
		}
	})
}

// FuzzTokenList goes below the checksum, which random changes never get right.
func FuzzTokenList(f *testing.F) {
	f.Add(list(number("object", 1), number("offset", 0), number("bytes", 7), number("toguid", 42), pair("toname", nvString, []byte("a\x00"))))
	f.Add(list(pair("redact_snaps", 16, make([]byte, 64))))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, packed []byte) {
		if point, err := readPoint(packed); (err == nil) == (point.To == 0) {
			t.Errorf("%+v, %v", point, err)
		}
	})
}
