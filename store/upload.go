package store

// Upload is what the files that somebody sent have become.
type Upload struct {
	SHA   string `json:"sha"`  // of the commit
	Tree  string `json:"tree"` // of the files: the same for the same files
	Files int    `json:"files"`
	Bytes int64  `json:"bytes"` // of the files together
}
