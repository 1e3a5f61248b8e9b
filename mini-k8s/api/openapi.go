package api

import (
	"reflect"
	"strings"
)

// This file describes the kinds in OpenAPI v3: to `kubectl explain`, and to kubectl before it sends a manifest. Names and
// descriptions of the types come with the types; what a field is, its Go type and its tags say.
//
// In Kubernetes: generated from the comments of the types (k8s.io/kube-openapi), which also know defaults and enums.

// Schema is a part of an OpenAPI document, as it stands in JSON.
type Schema = map[string]any

// OpenAPI returns the paths of the kinds, and the schemas of all that they are made of. They are made anew at each call:
// those of group v1 alone are a third of a megabyte, and seldom asked for.
func OpenAPI(kinds []*Kind) (paths, schemas Schema) {
	// A "fieldValidation" has kubectl leave the check of a manifest to the server (KEP-2885).
	var parameters []Schema
	for _, name := range []string{"dryRun", "fieldManager", "fieldValidation"} {
		parameters = append(parameters, Schema{"name": name, "in": "query", "schema": Schema{"type": "string", "uniqueItems": true}})
	}
	paths, schemas = Schema{}, Schema{}
	for _, kind := range kinds {
		gvk := Schema{"group": kind.Group, "version": kind.Version, "kind": kind.Kind}
		name, schema := kind.GroupVersion().String()+"."+kind.Kind, Schema{"type": "object", "description": kind.Refusal()}
		if kind.goType != nil {
			name, schema = modelName(kind.goType), structSchema(kind.goType, schemas)
		}
		schema["x-kubernetes-group-version-kind"] = []Schema{gvk}
		schemas[name] = schema
		operation := Schema{"parameters": parameters, "x-kubernetes-group-version-kind": gvk, "responses": Schema{"200": Schema{
			"description": "OK", "content": Schema{"application/json": Schema{"schema": reference(name)}}}}}
		paths[kind.Path("{namespace}", "{name}", "")] = Schema{"get": operation, "patch": operation}
	}
	return paths, schemas
}

// schemaOf returns the schema of a type. That of a struct is a reference to what it adds to all.
func schemaOf(t reflect.Type, all Schema) Schema {
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem(), all)
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return Schema{"type": "string", "format": "byte"}
		}
		return Schema{"type": "array", "items": schemaOf(t.Elem(), all)}
	case reflect.Map:
		return Schema{"type": "object", "additionalProperties": schemaOf(t.Elem(), all)}
	case reflect.Struct:
		name := modelName(t)
		if all[name] == nil {
			all[name] = Schema{} // a type may contain itself
			all[name] = structSchema(t, all)
		}
		return reference(name)
	case reflect.Bool:
		return Schema{"type": "boolean"}
	case reflect.Int32, reflect.Int64:
		return Schema{"type": "integer", "format": t.Kind().String()}
	}
	return Schema{"type": "string"}
}

func structSchema(t reflect.Type, all Schema) Schema {
	switch written := reflect.Zero(t).Interface().(type) {
	case interface{ OpenAPIV3OneOfTypes() []string }: // a number or a text: "25%", "500m"
		either := written.OpenAPIV3OneOfTypes()
		return Schema{"oneOf": []Schema{{"type": either[0]}, {"type": either[1]}}}
	case interface{ OpenAPISchemaFormat() string }: // a time
		return Schema{"type": "string", "format": written.OpenAPISchemaFormat()}
	}
	properties := Schema{}
	schema := Schema{"type": "object", "description": docs(t)[""], "properties": properties}
	if required := addFields(t, properties, all); len(required) > 0 {
		schema["required"] = required
	}
	return schema
}

// addFields adds the fields of a struct to properties and returns the required ones: those written even if empty.
func addFields(t reflect.Type, properties, all Schema) (required []string) {
	for i := range t.NumField() {
		field := t.Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" && field.Anonymous {
			required = append(required, addFields(field.Type, properties, all)...)
		}
		if name == "" || name == "-" {
			continue
		}
		schema := schemaOf(field.Type, all)
		if schema["$ref"] != nil {
			schema = Schema{"allOf": []Schema{schema}} // nothing may stand beside a reference
		}
		schema["description"] = docs(t)[name]
		for tag, extension := range map[string]string{"patchStrategy": "strategy", "patchMergeKey": "merge-key"} {
			if value := field.Tag.Get(tag); value != "" {
				schema["x-kubernetes-patch-"+extension] = value
			}
		}
		if properties[name] = schema; !strings.Contains(options, "omit") {
			required = append(required, name)
		}
	}
	return required
}

func reference(name string) Schema { return Schema{"$ref": "#/components/schemas/" + name} }

func modelName(t reflect.Type) string {
	return reflect.Zero(t).Interface().(interface{ OpenAPIModelName() string }).OpenAPIModelName()
}

// docs returns what is said of a type, under "", and of its fields.
func docs(t reflect.Type) map[string]string {
	return reflect.Zero(t).Interface().(interface{ SwaggerDoc() map[string]string }).SwaggerDoc()
}
