package gitserver

// Limits bound what one push may cost. Zero means the default.
type Limits struct {
	PackBytes     int64 // of a pack as it is sent; default 2 GiB
	ObjectBytes   int64 // of one object, inflated; default 512 MiB
	InflatedBytes int64 // of all objects of a pack together, and all their deltas; default 16 GiB
	Objects       int   // in one pack; default 2 million
	Commands      int   // refs in one push; default 1000
	UploadBytes   int64 // of the files of one upload together; default 512 MiB
	UploadFiles   int   // and directories of one upload; default 100,000
}

// maxStructure bounds commits, trees and tags, which are read into memory whole.
const maxStructure = 64 << 20

func (l Limits) withDefaults() Limits {
	return Limits{
		PackBytes:     orDefault(l.PackBytes, 2<<30),
		ObjectBytes:   orDefault(l.ObjectBytes, 512<<20),
		InflatedBytes: orDefault(l.InflatedBytes, 16<<30),
		Objects:       orDefault(l.Objects, 2_000_000),
		Commands:      orDefault(l.Commands, 1000),
		UploadBytes:   orDefault(l.UploadBytes, 512<<20),
		UploadFiles:   orDefault(l.UploadFiles, 100_000),
	}
}

func orDefault[N int | int64](n, fallback N) N {
	if n <= 0 {
		return fallback
	}
	return n
}
