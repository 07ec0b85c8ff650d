package onnx

import (
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// A size that is not a number is a polynomial with integer coefficients over atoms: the symbols of the graph's inputs, and
// terms such as floor(H/2) that no polynomial expresses. Its string is canonical (terms sorted, sums and products
// multiplied out, quotients reduced), so that two sizes computed in different ways usually have one name:
//
//	H, 2*H, H - 2, floor((H + 1)/2), 2*floor(H/4), C*H*W, max(H, W)

// poly maps monomials to their coefficients, which are not 0. A monomial is the sorted list of its atoms, each followed by
// atomEnd; the constant term's is "". polys are values: no operation changes its operands.
type poly map[string]int64

const atomEnd = "\x00"

func number(n int64) poly {
	if n == 0 {
		return poly{}
	}
	return poly{"": n}
}

// constant returns the value of a polynomial without atoms.
func (p poly) constant() (int64, bool) {
	switch len(p) {
	case 0:
		return 0, true
	case 1:
		n, ok := p[""]
		return n, ok
	}
	return 0, false
}

func (p poly) equal(q poly) bool { return maps.Equal(p, q) }

func (p poly) plus(q poly, factor int64) poly {
	sum := make(poly, len(p)+len(q))
	maps.Copy(sum, p)
	for m, c := range q {
		if sum[m] += factor * c; sum[m] == 0 {
			delete(sum, m)
		}
	}
	return sum
}

func (p poly) add(q poly) poly { return p.plus(q, 1) }

func (p poly) sub(q poly) poly { return p.plus(q, -1) }

func (p poly) addInt(n int64) poly { return p.plus(number(n), 1) }

// Bounds on expressions. What exceeds them gets a short name made from its hash: equal expressions still have equal names, and the names
// in a hostile graph do not grow with every node.
const (
	maxTerms  = 64
	maxDegree = 16
	maxName   = 400
)

// short keeps names short.
func short(name string) string {
	if len(name) <= maxName {
		return name
	}
	h := fnv.New64a()
	h.Write([]byte(name))
	return fmt.Sprintf("size_%016x", h.Sum64())
}

func (p poly) degree() int {
	d := 0
	for m := range p {
		d = max(d, strings.Count(m, atomEnd))
	}
	return d
}

// mul multiplies polynomials.
func (a *algebra) mul(p, q poly) poly {
	if len(p)*len(q) > maxTerms || p.degree()+q.degree() > maxDegree {
		s, t := a.string(p), a.string(q)
		if s > t {
			s, t = t, s
		}
		return atom(short("(" + s + ")*(" + t + ")"))
	}
	out := poly{}
	for m, c := range p {
		for n, d := range q {
			atoms := append(atomsOf(m), atomsOf(n)...)
			slices.Sort(atoms)
			key := ""
			for _, a := range atoms {
				key += a + atomEnd
			}
			if out[key] += c * d; out[key] == 0 {
				delete(out, key)
			}
		}
	}
	return out
}

func (p poly) scale(n int64) poly { return poly{}.plus(p, n) }

func atomsOf(monomial string) []string {
	if monomial == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(monomial, atomEnd), atomEnd)
}

// positive reports a polynomial that is at least 1 whatever the sizes, which are at least 1 themselves.
func (p poly) positive() bool {
	for _, c := range p {
		if c < 0 {
			return false
		}
	}
	return len(p) > 0
}

// algebra keeps what the strings of atoms stand for.
type algebra struct {
	floors map[string]floorAtom
	polys  map[string]poly // by the symbol they are printed as
}

// floorAtom is floor(num/den).
type floorAtom struct {
	num poly
	den int64
}

func newAlgebra() *algebra {
	return &algebra{floors: map[string]floorAtom{}, polys: map[string]poly{}}
}

func atom(name string) poly { return poly{name + atomEnd: 1} }

// of reads a dimension. A symbol in canonical form is taken apart again; any other is an atom.
func (a *algebra) of(d Dim) poly {
	if d.Known() {
		return number(d.Size)
	}
	if p, ok := a.polys[d.Symbol]; ok {
		return p
	}
	p, err := (&symbolParser{a: a, rest: d.Symbol}).whole()
	if err != nil || a.string(p) != d.Symbol {
		p = atom(d.Symbol)
	}
	a.polys[d.Symbol] = p
	return p
}

// dim is the dimension that a polynomial denotes.
func (a *algebra) dim(p poly) Dim {
	if n, ok := p.constant(); ok {
		return Dim{Size: n}
	}
	s := a.string(p)
	if len(s) > 4*maxName {
		s = short(s)
		p = atom(s)
	}
	a.polys[s] = p
	return Dim{Symbol: s}
}

func (a *algebra) string(p poly) string {
	if len(p) == 1 {
		for m, c := range p {
			if atoms := atomsOf(m); c == 1 && len(atoms) == 1 {
				return atoms[0]
			}
		}
	}
	var b strings.Builder
	keys := slices.Sorted(maps.Keys(p))
	if len(keys) > 0 && keys[0] == "" { // the constant comes last
		keys = append(keys[1:], "")
	}
	for i, m := range keys {
		c := p[m]
		switch {
		case i > 0 && c < 0:
			b.WriteString(" - ")
		case i > 0:
			b.WriteString(" + ")
		case c < 0:
			b.WriteString("-")
		}
		if c < 0 {
			c = -c
		}
		var factors []string
		if c != 1 || m == "" {
			factors = append(factors, strconv.FormatInt(c, 10))
		}
		for _, f := range atomsOf(m) {
			factors = append(factors, a.quoted(f))
		}
		b.WriteString(strings.Join(factors, "*"))
	}
	if b.Len() == 0 {
		return "0"
	}
	return b.String()
}

// quoted puts brackets around a symbol that would not be recognised inside an expression.
func (a *algebra) quoted(name string) string {
	if _, ok := a.floors[name]; ok || plainSymbol(name) || a.compound(name) {
		return name
	}
	return "[" + name + "]"
}

func (a *algebra) compound(name string) bool {
	return strings.HasPrefix(name, "max(") || strings.HasPrefix(name, "min(") || strings.HasPrefix(name, "quotient(")
}

func plainSymbol(s string) bool {
	for i, r := range s {
		letter := r == '_' || r == '.' || r == ':' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r > 127
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return s != ""
}

// floorDiv is floor(p/d) for d > 0, with whole multiples of d taken out, common factors cancelled, and nested floors joined.
func (a *algebra) floorDiv(p poly, d int64) poly {
	whole, rest := poly{}, poly{}
	for m, c := range p {
		q := floorQuotient(c, d)
		if q != 0 {
			whole[m] = q
		}
		if r := c - q*d; r != 0 {
			rest[m] = r
		}
	}
	if len(rest) == 0 {
		return whole
	}
	if _, ok := rest.constant(); ok {
		return whole // 0 ≤ rest < d
	}
	g := d
	for m, c := range rest {
		if m != "" {
			g = gcd(g, c)
		}
	}
	if g > 1 {
		reduced := poly{}
		for m, c := range rest {
			if q := floorQuotient(c, g); q != 0 {
				reduced[m] = q
			}
		}
		return whole.add(a.floorDiv(reduced, d/g))
	}
	if inner, c, ok := a.onlyFloor(rest); ok && inner.den < math.MaxInt32/d {
		return whole.add(a.floorDiv(inner.num.addInt(c*inner.den), d*inner.den))
	}
	name := short("floor(" + a.grouped(rest) + "/" + strconv.FormatInt(d, 10) + ")")
	a.floors[name] = floorAtom{num: rest, den: d}
	return whole.add(atom(name))
}

// onlyFloor recognises floor(…) + c.
func (a *algebra) onlyFloor(p poly) (f floorAtom, c int64, ok bool) {
	for m, k := range p {
		if m == "" {
			c = k
			continue
		}
		if f, ok = a.floors[strings.TrimSuffix(m, atomEnd)]; !ok || k != 1 {
			return f, 0, false
		}
	}
	return f, c, ok && len(p) <= 2
}

func (a *algebra) ceilDiv(p poly, d int64) poly { return a.floorDiv(p.addInt(d-1), d) }

// grouped prints a polynomial, in parentheses when it is a sum.
func (a *algebra) grouped(p poly) string {
	if len(p) > 1 {
		return "(" + a.string(p) + ")"
	}
	return a.argument(p)
}

// argument prints a polynomial inside an expression.
func (a *algebra) argument(p poly) string {
	if a.polyIsAtom(p) {
		return a.quoted(a.string(p))
	}
	return a.string(p)
}

func (a *algebra) polyIsAtom(p poly) bool {
	for m, c := range p {
		return len(p) == 1 && c == 1 && len(atomsOf(m)) == 1
	}
	return false
}

// quotient is floor(p/q) for positive q.
func (a *algebra) quotient(p, q poly) poly {
	if p.equal(q) {
		return number(1)
	}
	if d, ok := q.constant(); ok && d > 0 {
		return a.floorDiv(p, d)
	}
	if len(q) == 1 {
		for m, c := range q {
			if exact, ok := p.overMonomial(m); ok && c > 0 {
				return a.floorDiv(exact, c)
			}
		}
	}
	return atom(short("quotient(" + a.argument(p) + ", " + a.argument(q) + ")"))
}

// overMonomial divides every term by a monomial, if each holds all its atoms.
func (p poly) overMonomial(m string) (poly, bool) {
	out := poly{}
	for n, c := range p {
		left := atomsOf(n)
		for _, f := range atomsOf(m) {
			i := slices.Index(left, f)
			if i < 0 {
				return nil, false
			}
			left = slices.Delete(left, i, i+1)
		}
		key := ""
		for _, f := range left {
			key += f + atomEnd
		}
		out[key] = c
	}
	return out, true
}

// extremum is max(p, q) or min(p, q), decided when they differ by a number.
func (a *algebra) extremum(name string, p, q poly) poly {
	if c, ok := p.sub(q).constant(); ok {
		if c > 0 == (name == "max") {
			return p
		}
		return q
	}
	s, t := a.argument(p), a.argument(q)
	if s > t {
		s, t = t, s
	}
	return atom(short(name + "(" + s + ", " + t + ")"))
}

// Multiple returns the number k ≥ 1 with a = k·b, when there is one whatever the symbols stand for.
func Multiple(a, b Dim) (k int64, ok bool) {
	alg := newAlgebra()
	p, q := alg.of(a), alg.of(b)
	for m, c := range q {
		if c == 0 || p[m]%c != 0 {
			return 0, false
		}
		k = p[m] / c
		return k, k >= 1 && p.equal(q.scale(k))
	}
	return 0, false
}

// Divisible reports whether d is a multiple of k whatever the symbols stand for.
func Divisible(d Dim, k int64) bool {
	for _, c := range newAlgebra().of(d) {
		if c%k != 0 {
			return false
		}
	}
	return true
}

func floorQuotient(c, d int64) int64 {
	q := c / d
	if c%d != 0 && (c < 0) != (d < 0) {
		q--
	}
	return q
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return max(a, -a)
}

// symbolParser reads canonical expressions; what it cannot read is an atom to the algebra.
type symbolParser struct {
	a     *algebra
	rest  string
	depth int
}

func (s *symbolParser) whole() (poly, error) {
	p, err := s.sum()
	if err == nil && s.rest != "" {
		err = fmt.Errorf("%q is left over", s.rest)
	}
	return p, err
}

func (s *symbolParser) accept(token string) bool {
	rest, ok := strings.CutPrefix(s.rest, token)
	if ok {
		s.rest = rest
	}
	return ok
}

func (s *symbolParser) sum() (poly, error) {
	if s.depth++; s.depth > 16 {
		return nil, fmt.Errorf("nested too deep")
	}
	defer func() { s.depth-- }()
	sign := int64(1)
	if s.accept("-") {
		sign = -1
	}
	p := poly{}
	for {
		t, err := s.product()
		if err != nil {
			return nil, err
		}
		p = p.plus(t, sign)
		switch {
		case s.accept(" + "):
			sign = 1
		case s.accept(" - "):
			sign = -1
		default:
			return p, nil
		}
	}
}

func (s *symbolParser) product() (poly, error) {
	p, err := s.factor()
	for err == nil && s.accept("*") {
		var q poly
		if q, err = s.factor(); err == nil {
			p = s.a.mul(p, q)
		}
	}
	return p, err
}

func (s *symbolParser) factor() (poly, error) {
	for _, name := range []string{"max", "min", "quotient"} {
		if !s.accept(name + "(") {
			continue
		}
		p, err := s.sum()
		if err != nil || !s.accept(", ") {
			return nil, errNotCanonical(err, name)
		}
		q, err := s.sum()
		if err != nil || !s.accept(")") {
			return nil, errNotCanonical(err, name)
		}
		if name == "quotient" {
			return s.a.quotient(p, q), nil
		}
		return s.a.extremum(name, p, q), nil
	}
	if s.accept("floor(") {
		return s.floor()
	}
	if s.accept("[") {
		name, rest, ok := strings.Cut(s.rest, "]")
		s.rest = rest
		if !ok {
			return nil, fmt.Errorf("a bracket is not closed")
		}
		return atom(name), nil
	}
	end := strings.IndexAny(s.rest, "*/+-(), []")
	if end < 0 {
		end = len(s.rest)
	}
	word := s.rest[:end]
	s.rest = s.rest[end:]
	if n, err := strconv.ParseInt(word, 10, 32); err == nil {
		return number(n), nil
	}
	if !plainSymbol(word) {
		return nil, fmt.Errorf("%q is not a symbol", word)
	}
	return atom(word), nil
}

func errNotCanonical(err error, name string) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("the arguments of %s cannot be read", name)
}

// floor reads the rest of floor(p/d) or floor((p)/d).
func (s *symbolParser) floor() (poly, error) {
	grouped := s.accept("(")
	p, err := s.sum()
	if err != nil || grouped && !s.accept(")") || !s.accept("/") {
		return nil, errNotCanonical(err, "floor")
	}
	end := strings.IndexByte(s.rest, ')')
	if end < 0 {
		return nil, fmt.Errorf("floor is not closed")
	}
	d, err := strconv.ParseInt(s.rest[:end], 10, 32)
	if err != nil || d < 1 {
		return nil, fmt.Errorf("%q is not a divisor", s.rest[:end])
	}
	s.rest = s.rest[end+1:]
	return s.a.floorDiv(p, d), nil
}

// SizeOf is the size that d denotes when the symbols of the graph's inputs have the given sizes; ok is false when it depends on more.
func SizeOf(d Dim, symbols map[string]int64) (size int64, ok bool) {
	a := newAlgebra()
	return a.evaluate(a.of(d), symbols)
}

func (a *algebra) evaluate(p poly, symbols map[string]int64) (int64, bool) {
	sum := int64(0)
	for m, c := range p {
		for _, f := range atomsOf(m) {
			v, ok := symbols[f]
			if floor, isFloor := a.floors[f]; isFloor {
				if v, ok = a.evaluate(floor.num, symbols); ok {
					v = floorQuotient(v, floor.den)
				}
			}
			if !ok {
				return 0, false
			}
			c *= v
		}
		sum += c
	}
	return sum, true
}
