package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/client"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// timeline prints the life of an object and of what belongs to it, a line for each change.
func (s *session) timeline(args []string) error {
	targets, err := s.targets(args)
	asJSON := s.String("output") == "json"
	if err != nil || len(targets) != 1 || targets[0].name == "" || s.IsSet("output") && !asJSON {
		return cmp.Or(err, errors.New("say of which object, and perhaps how: mini-k8s timeline deployment/web -o json"))
	}
	request := client.Request{Method: http.MethodGet, Path: targets[0].kind.Path(s.namespace, targets[0].name, "history"),
		Query: url.Values{"watch": {fmt.Sprint(s.Bool("watch"))}}}
	lines := &table{}
	for _, title := range []string{"Time", "Revision", "Object", "Who", "What"} {
		lines.ColumnDefinitions = append(lines.ColumnDefinitions, metav1.TableColumnDefinition{Name: title})
	}
	begin, present := time.Now().Add(-s.Duration("since")), false
	err = s.changes(request, func(event watch.EventType, object []byte) error {
		var e api.HistoryEntry
		err := json.Unmarshal(object, &e)
		switch {
		case event == watch.Bookmark:
			present = true
		case s.IsSet("since") && e.Time.Before(begin):
		case asJSON:
			fmt.Fprintf(s.out, "%s\n", object)
		default:
			cells := []any{e.Time.Local().Format(time.TimeOnly), e.Revision, strings.ToLower(e.Kind) + "/" + e.Name, e.Who, news(e)}
			lines.Rows = append(lines.Rows, metav1.TableRow{Cells: cells})
		}
		if present && len(lines.Rows) > 0 {
			lines.print(s.out)
		}
		return err
	})
	if len(lines.Rows) > 0 {
		lines.print(s.out)
	}
	return err
}

// upToElement is the part of a path that the name of a list tells as well.
var upToElement = regexp.MustCompile(`^.*\.(\w+\[)`)

// news says in a line what has happened: of a status, what a table shows of it, if it does.
func news(e api.HistoryEntry) string {
	switch {
	case e.Event != nil && e.Event.Count > 1:
		return fmt.Sprintf("%s: %s (%d times)", e.Event.Reason, e.Event.Message, e.Event.Count)
	case e.Event != nil:
		return e.Event.Reason + ": " + e.Event.Message
	case e.Verb == "known":
		return "was there already, created " + e.Time.Local().Format(time.DateTime)
	case e.Verb != "updated":
		return e.Verb
	}
	var words, status []string
	for _, d := range e.Changes {
		text := upToElement.ReplaceAllString(d.Path, "$1") + " " + short(d.From) + " -> " + short(d.To)
		if strings.HasPrefix(d.Path, "status.") {
			status = append(status, text)
		} else {
			words = append(words, text)
		}
	}
	for _, d := range e.Columns {
		words = append(words, strings.ToUpper(d.Path)+" "+short(d.From)+" -> "+short(d.To))
	}
	if len(words) == 0 {
		words = status
	}
	return strings.Join(words, "; ")
}

// short returns a value in few words.
func short(value any) string {
	text, ok := value.(string)
	if !ok && value != nil {
		data, _ := json.Marshal(value)
		text = string(data)
	}
	if len(text) > 60 {
		text = strings.ToValidUTF8(text[:60], "") + "..."
	}
	return cmp.Or(text, "none")
}
