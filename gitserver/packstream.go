package gitserver

import (
	"hash"
	"hash/crc32"
	"io"
)

// packStream reads a pack once, front to back, and never further than it is asked to inflate: it knows the position of
// each byte it hands out, the checksum of the whole and the CRC of the object at hand.
type packStream struct {
	source        io.Reader
	buffer        []byte
	from, at, end int   // settled, handed out, filled
	before        int64 // bytes of the pack in front of the buffer
	sum           hash.Hash
	crc           uint32
}

func newPackStream(source io.Reader) *packStream {
	return &packStream{source: source, buffer: make([]byte, 64<<10), sum: newSHA1()}
}

func (s *packStream) position() int64 { return s.before + int64(s.at) }

// settle takes what was handed out into the checksums.
func (s *packStream) settle() {
	used := s.buffer[s.from:s.at]
	_, _ = s.sum.Write(used)
	s.crc = crc32.Update(s.crc, crc32.IEEETable, used)
	s.from = s.at
}

func (s *packStream) fill() error {
	s.settle()
	s.before += int64(s.end)
	s.from, s.at, s.end = 0, 0, 0
	for {
		n, err := s.source.Read(s.buffer)
		if n > 0 {
			s.end = n
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// ReadByte makes the inflater stop exactly where an object ends.
func (s *packStream) ReadByte() (byte, error) {
	if s.at == s.end {
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
	b := s.buffer[s.at]
	s.at++
	return b, nil
}

func (s *packStream) Read(p []byte) (int, error) {
	if s.at == s.end {
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.buffer[s.at:s.end])
	s.at += n
	return n, nil
}

// beginObject starts a new CRC.
func (s *packStream) beginObject() {
	s.settle()
	s.crc = 0
}

// endObject gives the CRC of all bytes since beginObject.
func (s *packStream) endObject() uint32 {
	s.settle()
	return s.crc
}
