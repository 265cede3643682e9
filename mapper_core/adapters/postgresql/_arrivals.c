/* The rows of a COPY, joined as they arrive: `Arrivals.block` without a Python object for each row.

   It calls libpq's public functions on psycopg's connection (`PGconn.pgconn_ptr`), and finds them
   in the libpq that psycopg itself has loaded: there may be others. Sources: PostgreSQL
   documentation, "Functions Associated with the COPY Command" and "Asynchronous Command Processing";
   psycopg documentation, `psycopg.pq.PGconn.pgconn_ptr`. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

/* What `take` found last, in PQgetCopyData's own words: 0, -1 at the end, and this. */
#define FAILED -2

/* Room for rows that libpq has already, beyond the block that is asked for. */
#define SPARE 65536

static int (*get_copy_data)(void *, char **, int);
static int (*consume_input)(void *);
static int (*socket_of)(const void *);
static void (*free_memory)(void *);

typedef struct {
    char *bytes;
    size_t length, room;
} Block;

PyDoc_STRVAR(bind_doc,
"bind(path, /)\n--\n\n"
"Find libpq's functions in what a loaded module, the file at `path`, was linked with.\n\n"
"Return whether rows can be joined here: not without the functions, nor in a Python without the\n"
"lock that keeps other threads from closing a connection meanwhile.");

static PyObject *
bind(PyObject *Py_UNUSED(module), PyObject *args)
{
    const char *path;
    if (!PyArg_ParseTuple(args, "s", &path)) {
        return NULL;
    }
#ifdef Py_GIL_DISABLED
    Py_RETURN_FALSE;
#else
    /* Never closed: the functions stay as long as the process. */
    void *library = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
    if (library == NULL) {
        Py_RETURN_FALSE;
    }
    *(void **)&get_copy_data = dlsym(library, "PQgetCopyData");
    *(void **)&consume_input = dlsym(library, "PQconsumeInput");
    *(void **)&socket_of = dlsym(library, "PQsocket");
    *(void **)&free_memory = dlsym(library, "PQfreemem");
    return PyBool_FromLong(get_copy_data && consume_input && socket_of && free_memory);
#endif
}

/* Set the connection, NULL where it is closed; return whether that could be asked. */
static int
connection_of(PyObject *pgconn, void **connection)
{
    PyObject *pointer = PyObject_GetAttrString(pgconn, "pgconn_ptr");
    if (pointer == NULL) {
        return 0;
    }
    *connection = pointer == Py_None ? NULL : PyLong_AsVoidPtr(pointer);
    Py_DECREF(pointer);
    return !PyErr_Occurred();
}

static int
add(Block *block, const char *row, size_t length)
{
    if (length > block->room - block->length) {
        size_t room = (block->length + length) * 2;
        char *bytes = realloc(block->bytes, room);
        if (bytes == NULL) {
            PyErr_NoMemory();
            return 0;
        }
        block->bytes = bytes;
        block->room = room;
    }
    memcpy(block->bytes + block->length, row, length);
    block->length += length;
    return 1;
}

/* Wait until the server has sent something; return whether nothing was raised meanwhile. */
static int
wait_for(int socket)
{
    struct pollfd arrived = {.fd = socket, .events = POLLIN};
    int found;
    do {
        /* What a signal's handler raises ends the wait. */
        if (PyErr_CheckSignals() < 0) {
            return 0;
        }
        Py_BEGIN_ALLOW_THREADS
        found = poll(&arrived, 1, -1);
        Py_END_ALLOW_THREADS
    } while (found < 0 && errno == EINTR);
    if (found < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return 0;
    }
    return 1;
}

/* Set what was found last; return whether nothing was raised. */
static int
fill(PyObject *pgconn, Block *block, size_t size, int *state)
{
    for (;;) {
        void *connection;
        if (!connection_of(pgconn, &connection)) {
            return 0;
        }
        if (connection == NULL) {
            *state = FAILED;
            return 1;
        }
        /* libpq holds some rows at a time, so the block's size can wait for their end. */
        char *row;
        int length;
        while ((length = get_copy_data(connection, &row, 1)) > 0) {
            int added = add(block, row, (size_t)length);
            free_memory(row);
            if (!added) {
                return 0;
            }
        }
        *state = length;
        if (length < 0 || block->length >= size) {
            return 1;
        }
        /* A connection found broken has no socket any more, and says so when it is asked. */
        int socket = socket_of(connection);
        if (socket >= 0) {
            if (!wait_for(socket)) {
                return 0;
            }
            /* While we waited, another thread may have closed it. */
            if (!connection_of(pgconn, &connection)) {
                return 0;
            }
        }
        if (connection == NULL || !consume_input(connection)) {
            *state = FAILED;
            return 1;
        }
    }
}

PyDoc_STRVAR(take_doc,
"take(pgconn, size, /)\n--\n\n"
"Return rows of the running COPY, at least `size` bytes of them if there are, and what was found\n"
"last: 0 when more may come, -1 at the end, -2 when libpq cannot read on. Its lock is Python's:\n"
"that is given up while the server is waited for, never while libpq works, so that no other thread\n"
"can close the connection under it.");

static PyObject *
take(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *pgconn, *taken = NULL;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "On", &pgconn, &size)) {
        return NULL;
    }
    if (get_copy_data == NULL || size < 0) {
        PyErr_SetString(PyExc_ValueError, "bind() finds libpq first, and sizes are not negative");
        return NULL;
    }
    Block block = {.length = 0, .room = (size_t)size + SPARE};
    block.bytes = malloc(block.room);
    if (block.bytes == NULL) {
        return PyErr_NoMemory();
    }
    int state;
    if (fill(pgconn, &block, (size_t)size, &state)) {
        taken = Py_BuildValue("y#i", block.bytes, (Py_ssize_t)block.length, state);
    }
    free(block.bytes);
    return taken;
}

static PyMethodDef methods[] = {
    {"bind", bind, METH_VARARGS, bind_doc},
    {"take", take, METH_VARARGS, take_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_arrivals",
    .m_doc = "The rows of a COPY, joined as they arrive.",
    .m_size = 0,
    .m_methods = methods,
};

PyMODINIT_FUNC
PyInit__arrivals(void)
{
    PyObject *made = PyModule_Create(&module);
#ifdef Py_GIL_DISABLED
    if (made != NULL) {
        PyUnstable_Module_SetGIL(made, Py_MOD_GIL_NOT_USED);
    }
#endif
    return made;
}
