package adapt_test
import ("testing";"fmt";"maps";"slices")
func TestTmpNames(t *testing.T){
	for what,p := range segmentAnything(t) {
		n := network(t, p.joined(t), p.choice())
		fmt.Println(what)
		left := slices.Sorted(maps.Keys(p.Gradients))
		for i, name := range n.Params() {
			g := p.recorded(name, n.Source()[i], p.Gradients)
			for k, v := range p.Gradients { if len(v)>0&&len(g)>0 { for o := range v { if &v[o]==&g[0] { left=slices.DeleteFunc(left, func(x string) bool {return x==k}) } } ; if len(v)==len(g) && slices.Equal(sorted(v),sorted(g)) { left=slices.DeleteFunc(left, func(x string) bool {return x==k}) } } }
			if g==nil {fmt.Println("  ?", name, n.Source()[i].Shape())}
		}
		for _, k := range left { fmt.Println("  left", k, len(p.Gradients[k]), norm(p.Gradients[k])) }
	}
}
func sorted(v []float32) []float32 { v=slices.Clone(v); slices.Sort(v); return v}
