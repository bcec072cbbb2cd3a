package webui

import (
	"fmt"
	"html/template"
	"strings"

	"rsc.io/qr"
)

// quiet is the width of the empty margin of a QR code, in modules: ISO/IEC 18004,
// section 6.3.8.
const quiet = 4

// qrCode draws a text for a camera. The title is what a screen reader says. It is dark on
// light in either colour scheme, as cameras want it: see .qr in the style sheet.
func qrCode(title, text string) (template.HTML, error) {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return "", err
	}
	var path strings.Builder
	for y := range code.Size {
		for x := 0; x < code.Size; x++ {
			from := x
			for x < code.Size && code.Black(x, y) {
				x++
			}
			if x > from {
				fmt.Fprintf(&path, "M%d %dh%dv1h-%dz", from+quiet, y+quiet, x-from, x-from)
			}
		}
	}
	size := code.Size + 2*quiet
	return template.HTML(fmt.Sprintf(`<svg class="qr" viewBox="0 0 %d %d" role="img" shape-rendering="crispEdges"><title>%s</title><path d="%s"/></svg>`,
		size, size, template.HTMLEscapeString(title), path.String())), nil
}
