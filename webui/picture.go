//go:build linux

package webui

import (
	"cmp"
	"fmt"
	"html/template"
	"maps"
	"math"
	"slices"
	"strings"

	"bulkhead/netcfg/model"
	"bulkhead/services/flow/record"
)

// Measures of the picture of who talks to whom: on the left who began, on the right with
// whom. Each side has zones as compartments, and devices in them.
const (
	picWidth = 960
	picSide  = 250 // width of a compartment
	picRow   = 20  // height of a device
	picHead  = 26  // of a zone's name
	picGap   = 14  // between zones
	picThick = 11  // of the widest line
)

// place is a device, or all others of a zone, on one side of the picture.
type place struct {
	party  record.Party
	others int // devices that it stands for, beside its own
	weight uint64
	order  float64 // where its lines would like it
	y      int     // its middle
	peers  map[*place]bool
}

func (p *place) label() string {
	switch {
	case p.others > 0:
		return fmt.Sprintf("%d more", p.others)
	case p.party.Device != "":
		return p.party.Device
	case p.party.Zone == model.Internet:
		return "all of it"
	case p.party.Zone == model.Box:
		return "its services"
	}
	return "without a name"
}

// column is one side of the picture.
type column struct {
	zones  map[string][]*place
	order  []string // of zones
	height int
}

// newColumn makes places of the parties of one side, and says which is whose: the weightiest
// of a zone have one of their own, and the others share one.
func newColumn(lines []*talkLine, party func(*talkLine) record.Party) (*column, map[record.Party]*place) {
	all := map[record.Party]*place{}
	c := &column{zones: map[string][]*place{}}
	for _, l := range lines {
		p := party(l)
		if all[p] == nil {
			all[p] = &place{party: p, peers: map[*place]bool{}}
			c.zones[p.Zone] = append(c.zones[p.Zone], all[p])
		}
		all[p].weight += l.weight()
	}
	for zone, list := range c.zones {
		slices.SortFunc(list, func(a, b *place) int {
			return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.party.Device, b.party.Device))
		})
		if len(list) > maxPlaces {
			rest := &place{party: record.Party{Zone: zone}, others: len(list) - maxPlaces + 1, peers: map[*place]bool{}}
			for _, p := range list[maxPlaces-1:] {
				all[p.party] = rest
			}
			c.zones[zone] = append(list[:maxPlaces-1:maxPlaces-1], rest)
		}
	}
	c.order = slices.Sorted(maps.Keys(c.zones))
	c.arrange()
	return c, all
}

// arrange puts places below each other in their order.
func (c *column) arrange() {
	y := 0
	for _, zone := range c.order {
		y += picHead
		for _, p := range c.zones[zone] {
			p.y = y + picRow/2
			y += picRow
		}
		y += picGap
	}
	c.height = y
}

// follow orders zones, and devices in them, by the middle of those on the other side that
// they talk to: lines cross the less.
func (c *column) follow() {
	middle := map[string]float64{}
	for zone, list := range c.zones {
		lines, sum := 0, 0.0
		for _, p := range list {
			at := 0.0
			for peer := range p.peers {
				at += float64(peer.y)
			}
			lines, sum = lines+len(p.peers), sum+at
			p.order = at / float64(max(len(p.peers), 1))
		}
		slices.SortFunc(list, func(a, b *place) int {
			return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.others, b.others), cmp.Compare(b.weight, a.weight), cmp.Compare(a.party.Device, b.party.Device))
		})
		middle[zone] = sum / float64(max(lines, 1))
	}
	slices.SortFunc(c.order, func(a, b string) int { return cmp.Or(cmp.Compare(middle[a], middle[b]), cmp.Compare(a, b)) })
	c.arrange()
}

// drawTalks draws lines as wide as much was said, dashed where it was refused. The same
// lines make the same picture. It is "" if there are none.
func drawTalks(lines []*talkLine) template.HTML {
	if len(lines) == 0 {
		return ""
	}
	left, from := newColumn(lines, func(l *talkLine) record.Party { return l.From })
	right, to := newColumn(lines, func(l *talkLine) record.Party { return l.To })
	type pair struct {
		from, to *place
		refused  bool
	}
	ways := map[pair]*talkLine{} // of places, which may stand for many
	var order []pair
	most := uint64(1)
	for _, l := range lines {
		k := pair{from[l.From], to[l.To], l.Refused}
		k.from.peers[k.to], k.to.peers[k.from] = true, true
		way := ways[k]
		if way == nil {
			way = &talkLine{Refused: l.Refused}
			ways[k] = way
			order = append(order, k)
		}
		way.Sum.Out.Add(l.Sum.Out)
		way.Sum.In.Add(l.Sum.In)
		way.Sum.Refused += l.Sum.Refused
		if !l.Refused {
			most = max(most, way.weight())
		}
	}
	for range 4 {
		right.follow()
		left.follow()
	}
	height := max(left.height, right.height)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="talks" viewBox="0 0 %d %d" role="img" aria-labelledby="picture-title picture-desc"><title id="picture-title">Who talks to whom</title><desc id="picture-desc">On the left who began, on the right with whom. %s. The table below says the same.</desc>`,
		picWidth, height, template.HTMLEscapeString(strings.Join(first(lines, 3), "; ")))
	for _, k := range order {
		way := ways[k]
		class, width := "talk", 1+(picThick-1)*math.Sqrt(float64(way.weight())/float64(most))
		if k.refused {
			class, width = "talk refused", 1.5
		}
		said := *way
		said.From, said.To = k.from.party, k.to.party
		text := said.text()
		if k.from.others+k.to.others > 0 {
			_, amount, _ := strings.Cut(text, ": ")
			text = fmt.Sprintf("%s, %s → %s, %s: %s", k.from.party.Zone, k.from.label(), k.to.party.Zone, k.to.label(), amount)
		}
		y1, y2 := k.from.y+(height-left.height)/2, k.to.y+(height-right.height)/2
		fmt.Fprintf(&b, `<path class="%s" stroke-width="%.1f" d="M%d %dC%d %d %d %d %d %d"><title>%s</title></path>`,
			class, width, picSide, y1, picWidth/2, y1, picWidth/2, y2, picWidth-picSide, y2, template.HTMLEscapeString(text))
	}
	left.draw(&b, 0, (height-left.height)/2)
	right.draw(&b, picWidth-picSide, (height-right.height)/2)
	b.WriteString("</svg>")
	return template.HTML(b.String())
}

// first says the first lines in words.
func first(lines []*talkLine, n int) (list []string) {
	for _, l := range lines[:min(len(lines), n)] {
		list = append(list, l.text())
	}
	return list
}

func (c *column) draw(b *strings.Builder, x, down int) {
	for _, zone := range c.order {
		list := c.zones[zone]
		top := list[0].y - picRow/2 - picHead + down
		fmt.Fprintf(b, `<rect class="zone" x="%d.5" y="%d.5" width="%d" height="%d" rx="5"/><text class="head" x="%d" y="%d">%s</text>`,
			x, top, picSide-1, picHead+len(list)*picRow+4, x+12, top+19, template.HTMLEscapeString(or(zone, "unknown")))
		for _, p := range list {
			class := "place"
			if p.party.Device == "" {
				class = "place quiet"
			}
			fmt.Fprintf(b, `<text class="%s" x="%d" y="%d">%s</text>`, class, x+12, p.y+down+4, template.HTMLEscapeString(p.label()))
		}
	}
}
