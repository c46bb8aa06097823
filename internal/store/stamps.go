package store

// Stamp is the store's side of the stamp on a server's pool. A store that was put back to an older state holds an older
// one than the pool does, however far its revision has come since: only the server itself writes its stamp.
type Stamp struct {
	ServerID string `json:"server_id"`
	Revision int64  `json:"revision"` // of the store, when the pool was stamped last
}

// Stamp returns what the server noted last.
func (tx *Tx) Stamp(server string) (Stamp, error) { return getRecord[Stamp](tx, kindStamp, server) }

// PutStamp writes the note; an unchanged one costs nothing.
func (tx *Tx) PutStamp(stamp Stamp) error { return putRecord(tx, kindStamp, stamp.ServerID, stamp) }
