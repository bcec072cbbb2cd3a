// Command suite runs go test and prints one line per package and one for the
// whole: how many tests passed, failed and were skipped. The output of a test is
// shown only if it failed. A suite in which nothing ran has failed.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// event is a line of go test -json, see go doc test2json.
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build output
	Test        string
	Elapsed     float64 // seconds
	Output      string
	FailedBuild string
}

type counts struct{ passed, failed, skipped int }

type suite struct {
	counts
	perPackage map[string]*counts
	output     map[string][]string // by package and test, until it is known to be of no interest
	skips      []string
}

func main() {
	name := flag.String("name", "tests", "`name` of the suite in the last line")
	noskip := flag.Bool("noskip", false, "fail if a test is skipped")
	flag.Parse()
	os.Exit(run(*name, *noskip, flag.Args()))
}

func run(name string, noskip bool, args []string) int {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	s := suite{perPackage: make(map[string]*counts), output: make(map[string][]string)}
	readErr := s.read(out)
	err = errors.Join(readErr, cmd.Wait())
	if noskip {
		for _, t := range s.skips {
			fmt.Println("skipped", t)
		}
	}
	code := 0
	switch {
	case err != nil:
		fmt.Println("go test:", err)
		code = 1
	case s.failed > 0, noskip && s.skipped > 0:
		code = 1
	case s.passed == 0:
		fmt.Println("no test ran")
		code = 1
	}
	if code != 0 && s.failed == 0 {
		s.failed = 1 // a build, a skip or an empty suite, so that the line says so
	}
	fmt.Printf("%s: %d passed, %d failed, %d skipped\n", name, s.passed, s.failed, s.skipped)
	return code
}

func (s *suite) read(r io.Reader) error {
	for dec := json.NewDecoder(r); ; {
		var e event
		if err := dec.Decode(&e); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			_, _ = io.Copy(os.Stdout, io.MultiReader(dec.Buffered(), r)) // not JSON: show it
			return err
		}
		if e.Test == "" {
			s.pkg(e)
		} else {
			s.test(e)
		}
	}
}

func (s *suite) test(e event) {
	key := e.Package + " " + e.Test
	c := s.perPackage[e.Package]
	if c == nil {
		c = new(counts)
		s.perPackage[e.Package] = c
	}
	switch e.Action {
	case "output":
		s.output[key] = append(s.output[key], e.Output)
		return
	case "pass":
		c.passed++
	case "skip":
		c.skipped++
		s.skips = append(s.skips, key)
	case "fail":
		c.failed++
		fmt.Print(strings.Join(s.output[key], ""))
	default:
		return
	}
	delete(s.output, key)
}

// pkg handles the events of a package as a whole. A package that dies (a panic, a
// timeout, a failed build) fails without any of its tests failing.
func (s *suite) pkg(e event) {
	switch e.Action {
	case "output":
		s.output[e.Package] = append(s.output[e.Package], e.Output)
		return
	case "build-output":
		fmt.Print(e.Output)
		return
	case "pass", "fail", "skip":
	default:
		return
	}
	c := s.perPackage[e.Package]
	if c == nil {
		c = new(counts)
	}
	if e.Action == "fail" && c.failed == 0 {
		c.failed = 1
		for _, key := range s.unfinished(e.Package) {
			fmt.Print(strings.Join(s.output[key], ""))
		}
		fmt.Print(strings.Join(s.output[e.Package], ""))
	}
	s.passed += c.passed
	s.failed += c.failed
	s.skipped += c.skipped
	short := strings.TrimPrefix(e.Package, "bulkhead/")
	if e.Action != "skip" { // packages without tests
		fmt.Printf("%-5s %-28s %5d passed %3d failed %3d skipped %7.1fs\n",
			e.Action, short, c.passed, c.failed, c.skipped, e.Elapsed)
	}
}

func (s *suite) unfinished(pkg string) []string {
	var keys []string
	for k := range s.output {
		if strings.HasPrefix(k, pkg+" ") {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}
