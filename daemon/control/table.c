/* Tables for people and for programs. */
#include "daemon/control/ctl.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static const char *cell(const struct table *t, size_t row, size_t column)
{
    return t->cell[row * t->columns + column];
}

static int column_width(const struct table *t, size_t column)
{
    size_t width = 0;
    for (size_t row = 0; row < t->rows; row++)
        if (strlen(cell(t, row, column)) > width)
            width = strlen(cell(t, row, column));
    return (int)width;
}

/* Controls in a cell must not reach a terminal. */
static void print_cell(const char *text, int width, FILE *out)
{
    int n = 0;
    for (; *text != '\0'; text++, n++)
        fputc((unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text, out);
    for (; n < width; n++)
        fputc(' ', out);
}

void table_print(const struct table *t, FILE *out)
{
    for (size_t row = 0; row < t->rows; row++) {
        for (size_t column = 0; column < t->columns; column++) {
            bool last = column + 1 == t->columns;
            print_cell(cell(t, row, column), last ? 0 : column_width(t, column), out);
            fputs(last ? "\n" : "  ", out);
        }
    }
}

void table_print_json(const struct table *t, FILE *out)
{
    json_t *list = json_array();
    for (size_t row = 1; row < t->rows; row++) {
        json_t *object = json_object();
        for (size_t column = 0; column < t->columns; column++)
            json_object_set_new(object, cell(t, 0, column), json_string(cell(t, row, column)));
        json_array_append_new(list, object);
    }
    json_dumpf(list, out, JSON_INDENT(1));
    fputc('\n', out);
    json_decref(list);
}
