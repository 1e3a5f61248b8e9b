package workbench

import (
	"fmt"
	"html"
	"slices"
	"strings"
)

// sequence draws who says what to whom, from top to bottom, out of a text:
//
//	actors: kubectl, API server, store
//	kubectl -> API server: PUT web, revision 7
//	API server -> store: update if at 7
//	store: at 8 now              a note at one actor
//	store --> API server: conflict          an answer: dashed
//	...                          time passes
func sequence(text string) (string, error) {
	const width, step, top = 980, 46, 62
	var actors []string
	var out strings.Builder
	y := top
	for number, line := range strings.Split(strings.TrimSpace(text), "\n") {
		fail := func(what string) error { return fmt.Errorf("line %d: %s: %q", number+1, what, line) }
		if names, ok := strings.CutPrefix(line, "actors:"); ok {
			for name := range strings.SplitSeq(names, ",") {
				actors = append(actors, strings.TrimSpace(name))
			}
			continue
		}
		if len(actors) < 2 {
			return "", fail("two actors or more come first")
		}
		x := func(name string) int {
			return width * (2*slices.Index(actors, strings.TrimSpace(name)) + 1) / (2 * len(actors))
		}
		y += step
		if strings.TrimSpace(line) == "..." {
			for i := range actors {
				fmt.Fprintf(&out, `<text class="n" x="%d" y="%d">⋮</text>`+"\n", width*(2*i+1)/(2*len(actors)), y)
			}
			continue
		}
		who, what, ok := strings.Cut(line, ":")
		if !ok {
			return "", fail("say ACTOR -> ACTOR: words")
		}
		what = html.EscapeString(strings.TrimSpace(what))
		class, arrow := "l", "->"
		if strings.Contains(who, "-->") {
			class, arrow = "l d", "-->"
		}
		from, to, isArrow := strings.Cut(who, arrow)
		switch {
		case x(from) < 0 || isArrow && x(to) < 0:
			return "", fail("an actor that was not named")
		case !isArrow:
			half := len([]rune(what))*7/2 + 12
			at := min(max(x(from), half+4), width-half-4)
			fmt.Fprintf(&out, `<rect class="b" x="%d" y="%d" width="%d" height="28" rx="6"/><text class="n" x="%d" y="%d">%s</text>`+"\n", at-half, y-20, 2*half, at, y-1, what)
		default:
			start, end := x(from), x(to)
			gap := 3
			if end < start {
				gap = -3
			}
			fmt.Fprintf(&out, `<path class="%s" d="M%d %d L%d %d" marker-end="url(#a)"/><text class="n" x="%d" y="%d">%s</text>`+"\n",
				class, start+gap, y, end-gap, y, (start+end)/2, y-7, what)
		}
	}
	height := y + 30
	var head strings.Builder
	for i, name := range actors {
		at := width * (2*i + 1) / (2 * len(actors))
		fmt.Fprintf(&head, `<path class="life" d="M%[1]d 50 L%[1]d %[2]d"/><rect class="actor" x="%[3]d" y="12" width="150" height="38" rx="8"/><text class="t" x="%[1]d" y="37">%[4]s</text>`+"\n",
			at, height-10, at-75, html.EscapeString(name))
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui, sans-serif" role="img" aria-label="%s">
<style>
.actor{fill:#f3f6fb;stroke:#33507e;stroke-width:1.5} .b{fill:#fff7db;stroke:#a16207} .life{stroke:#b6c2d6;stroke-width:1.5;stroke-dasharray:3 5}
text{fill:#1c2738;text-anchor:middle} .t{font-size:16px;font-weight:600} .n{font-size:13px;paint-order:stroke;stroke:#fff;stroke-width:4px} .b+.n{stroke:none}
.l{stroke:#33507e;stroke-width:1.6;fill:none} .d{stroke-dasharray:6 4}
</style>
<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="#33507e"/></marker></defs>
<rect width="%d" height="%d" fill="#ffffff"/>
%s%s</svg>
`, width, height, html.EscapeString("Between "+strings.Join(actors, ", ")+", from top to bottom"), width, height, head.String(), out.String()), nil
}
