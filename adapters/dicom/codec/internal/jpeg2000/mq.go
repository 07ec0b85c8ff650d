package jpeg2000

import "math/bits"

// mq is the arithmetic decoder (annex C).
//
// The standard's decoder keeps an interval A and a code C; a more probable symbol that needs no renormalisation subtracts Qe from
// both. So only their common distance to the first event is kept while such symbols come: d = min(C, A − 0x8000), from which Qe is
// taken until it falls below 0. A and C are d plus a constant each. The callers hold d in a register and do that subtraction
// themselves (the four lines with exchange in them), which makes the common decision as cheap as it can be.
type mq struct {
	data         []byte // ends with two bytes of 0xff
	at           int
	aOver, cOver int64 // A − d and C − d, scaled by 2^16
	ct           int
	d            int64
	cx           [contexts]uint32
}

// A context is a word: Qe in the upper half, the index of its state and the more probable symbol in the lower eight bits.
type mqTransitions [2 * 47]uint32

const halfInterval = 0x8000 << 16

// mqStates is Table C.2: Qe, next state after a more and a less probable symbol, and whether the latter exchanges them.
var mqStates = [47]struct {
	qe         uint32
	nmps, nlps uint8
	change     uint8
}{
	{0x5601, 1, 1, 1}, {0x3401, 2, 6, 0}, {0x1801, 3, 9, 0}, {0x0ac1, 4, 12, 0}, {0x0521, 5, 29, 0}, {0x0221, 38, 33, 0},
	{0x5601, 7, 6, 1}, {0x5401, 8, 14, 0}, {0x4801, 9, 14, 0}, {0x3801, 10, 14, 0}, {0x3001, 11, 17, 0}, {0x2401, 12, 18, 0},
	{0x1c01, 13, 20, 0}, {0x1601, 29, 21, 0}, {0x5601, 15, 14, 1}, {0x5401, 16, 14, 0}, {0x5101, 17, 15, 0}, {0x4801, 18, 16, 0},
	{0x3801, 19, 17, 0}, {0x3401, 20, 18, 0}, {0x3001, 21, 19, 0}, {0x2801, 22, 19, 0}, {0x2401, 23, 20, 0}, {0x2201, 24, 21, 0},
	{0x1c01, 25, 22, 0}, {0x1801, 26, 23, 0}, {0x1601, 27, 24, 0}, {0x1401, 28, 25, 0}, {0x1201, 29, 26, 0}, {0x1101, 30, 27, 0},
	{0x0ac1, 31, 28, 0}, {0x09c1, 32, 29, 0}, {0x08a1, 33, 30, 0}, {0x0521, 34, 31, 0}, {0x0441, 35, 32, 0}, {0x02a1, 36, 33, 0},
	{0x0221, 37, 34, 0}, {0x0141, 38, 35, 0}, {0x0111, 39, 36, 0}, {0x0085, 40, 37, 0}, {0x0049, 41, 38, 0}, {0x0025, 42, 39, 0},
	{0x0015, 43, 40, 0}, {0x0009, 44, 41, 0}, {0x0005, 45, 42, 0}, {0x0001, 45, 43, 0}, {0x5601, 46, 46, 0},
}

var mqAfterMPS, mqAfterLPS = func() (m, l mqTransitions) {
	for i, s := range mqStates {
		for mps := range uint8(2) {
			m[2*i+int(mps)] = mqContext(s.nmps, mps)
			l[2*i+int(mps)] = mqContext(s.nlps, mps^s.change)
		}
	}
	return m, l
}()

func mqContext(state, mps uint8) uint32 {
	return mqStates[state].qe<<16 | uint32(state)<<1 | uint32(mps)
}

// resetContexts gives the contexts their initial states (Table D.7).
func (m *mq) resetContexts() {
	for i := range m.cx {
		m.cx[i] = mqContext(0, 0)
	}
	m.cx[0] = mqContext(4, 0)
	m.cx[ctxRun] = mqContext(3, 0)
	m.cx[ctxUniform] = mqContext(46, 0)
}

// start begins a codeword segment, which must end with two more bytes of 0xff (C.3.5).
func (m *mq) start(data []byte) {
	m.data, m.at = data, 0
	c := int64(data[0]) << 16
	c = m.byteIn(c)
	c <<= 7
	m.ct -= 7
	m.setInterval(halfInterval, c)
}

func (m *mq) setInterval(a, c int64) {
	d := min(c, a-halfInterval)
	m.d, m.aOver, m.cOver = d, a-d, c-d
}

func (m *mq) byteIn(c int64) int64 {
	if m.data[m.at] == 0xff {
		next := m.data[m.at+1]
		if next > 0x8f {
			m.ct = 8
			return c + 0xff00
		}
		m.at++
		m.ct = 7
		return c + int64(next)<<9
	}
	m.at++
	m.ct = 8
	return c + int64(m.data[m.at])<<8
}

// exchange finishes the decision for context k after its Qe has brought d below 0 (C.3.2), and gives the symbol and the new d.
func (m *mq) exchange(k uint32, d int64) (symbol uint32, next int64) {
	cx := m.cx[k]
	qe := int64(cx &^ 0xffff)
	a, c := m.aOver+d, m.cOver+d
	less := a < qe
	if c < 0 {
		c += qe
		a, less = qe, !less
	}
	symbol = cx & 1
	if less {
		symbol ^= 1
		m.cx[k] = mqAfterLPS[cx&0xff]
	} else {
		m.cx[k] = mqAfterMPS[cx&0xff]
	}
	for n := bits.LeadingZeros32(uint32(a)); n > 0; {
		if m.ct == 0 {
			c = m.byteIn(c)
		}
		s := min(n, m.ct)
		a, c = a<<s, c<<s
		m.ct -= s
		n -= s
	}
	d = min(c, a-halfInterval)
	m.aOver, m.cOver = a-d, c-d
	return symbol, d
}

// uniform decodes a bit for which both symbols are alike, which is rare.
func (m *mq) uniform() uint32 {
	cx := m.cx[ctxUniform]
	m.d -= int64(cx &^ 0xffff)
	if m.d >= 0 {
		return cx & 1
	}
	var symbol uint32
	symbol, m.d = m.exchange(ctxUniform, m.d)
	return symbol
}

// rawBits reads the bits of a segment that bypasses the arithmetic coder (D.6): after a byte of 0xff one bit is stuffed. Behind
// the end come ones.
type rawBits struct {
	data []byte
	at   int
	last byte
	n    uint
}

func (r *rawBits) start(data []byte) { *r = rawBits{data: data} }

func (r *rawBits) bit() uint32 {
	if r.n == 0 {
		r.n = 8
		if r.last == 0xff {
			r.n = 7
		}
		if r.at < len(r.data) {
			r.last = r.data[r.at]
			r.at++
		} else {
			r.last = 0xff
		}
	}
	r.n--
	return uint32(r.last>>r.n) & 1
}
