package store

// Upload is what the files that somebody sent have become.
type Upload struct {
	SHA   string `json:"sha"` // of the commit
	Files int    `json:"files"`
	Bytes int64  `json:"bytes"` // of the files together
}
